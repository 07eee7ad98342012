// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run is held against is not there, or is another scenario's.

use super::Fault;

pub const UNREVIEWED: Fault = Fault {
    what: "a scenario has no snapshot yet",
    outcome: "new; it is not tried again",
    blame: "",
    code: 1,
    says: "all 3 steps as expected; there is no snapshot",
};
pub const OLDER: Fault = Fault {
    what: "a scenario's steps were changed after its snapshot",
    outcome: "failed; it is not tried again",
    blame: "file",
    code: 1,
    says: "is of an older text of this scenario",
};
pub const NAMESAKE: Fault = Fault {
    what: "a scenario elsewhere has the name of one in the project",
    outcome: "it is refused",
    blame: "",
    code: 2,
    says: "has the name of another scenario",
};
pub const NOWHERE: Fault = Fault {
    what: "a scenario is skipped on every kernel (`--every-scenario`)",
    outcome: "the command fails",
    blame: "",
    code: 1,
    says: "1 scenario is skipped everywhere",
};

pub const FAULTS: [&Fault; 4] = [&UNREVIEWED, &OLDER, &NAMESAKE, &NOWHERE];
