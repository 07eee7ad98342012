// SPDX-License-Identifier: MIT OR Apache-2.0
//! One group of tests at a time. A group is a module of this tier: it loads the machine in its own
//! manner, and some measure time. Within a group, tests run beside each other as libtest wants it.

use std::cell::RefCell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The group whose turn it is, and how many of its tests run.
struct Current {
    group: String,
    tests: usize,
}

static CURRENT: Mutex<Current> = Mutex::new(Current {
    group: String::new(),
    tests: 0,
});
static ENDED: Condvar = Condvar::new();

thread_local! {
    /// The turn of the test in this thread. It ends with the thread, and so with the test.
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

struct Turn;

impl Drop for Turn {
    fn drop(&mut self) {
        lock().tests -= 1;
        ENDED.notify_all();
    }
}

fn lock() -> MutexGuard<'static, Current> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no test of another group runs. A test that asks again has its turn already.
///
/// libtest names a test's thread after the test, `group::…::test`. With a single thread it runs all
/// tests in the main thread, one after the other anyway.
pub fn take() {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    let Some((group, _)) = name.split_once("::") else {
        return;
    };
    TURN.with_borrow_mut(|turn| {
        if turn.is_some() {
            return;
        }
        let others = |current: &mut Current| current.tests > 0 && current.group != group;
        let current = ENDED.wait_while(lock(), others);
        let mut current = current.unwrap_or_else(PoisonError::into_inner);
        group.clone_into(&mut current.group);
        current.tests += 1;
        *turn = Some(Turn);
    });
}
