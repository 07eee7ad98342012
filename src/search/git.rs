// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which commit of a history makes the difference.
//!
//! `git bisect` walks the history, in a worktree of the lab's own: the user's checkout is not
//! touched, and its hooks do not run. The worktree is in the same place each time, so that its
//! kernels are relatives of each other and share objects.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::bisect::{Change, First, Found, Judge, Said};
use super::series::effort;
use crate::cache::{KeyBuilder, blocking};
use crate::context::Context;
use crate::error::{Blame, Error, IoContext, Result};
use crate::files::shown;
use crate::kernel::Definition;
use crate::kernel::definition::Source;
use crate::process::Cmd;
use crate::report::text::one_line;

/// Digits of a commit in names.
const SHORT: usize = 12;
/// The most changes that a report names one by one.
const NAMED_MAX: usize = 20;

/// Searches the history of the repository at `dir`, with the config and the capabilities of
/// `kernel`.
///
/// # Errors
///
/// An end is not what it was said to be, or the lab could not find out.
pub async fn bisect(
    judge: &mut Judge<'_>,
    kernel: &Definition,
    dir: &Path,
    (good, bad): (&str, &str),
    first: First,
) -> Result<Found> {
    let ctx = judge.player.ctx;
    if crate::host::find_tool("git").is_none() {
        return Err(Error::host("`git` is not installed").help("apt-get install git"));
    }
    let started = Instant::now();
    let repository = Repository::new(ctx, dir).await?;
    let good = repository.commit(good, "--good").await?;
    let bad = repository.commit(bad, "--bad").await?;
    let worktree = repository.worktree().await?;
    let found = search(judge, kernel, &worktree, (&good, &bad), first).await;
    // The commits stay in the user's repository; what was checked out goes, also after Ctrl-C.
    let removed = worktree.remove().await;
    let (changes, parent, log) = found?;
    removed?;
    let difference = match (&changes[..], parent) {
        ([change], Some(parent)) => judge.difference(&parent, &change.id),
        _ => None,
    };
    Ok(Found {
        first,
        kind: "commit",
        changes,
        manner: judge.wanted(),
        difference,
        log: format!("{} (for git bisect replay)", shown(&log)),
        effort: effort(judge, started, "commit"),
    })
}

type Outcome = (Vec<Change>, Option<String>, PathBuf);

async fn search(
    judge: &mut Judge<'_>,
    kernel: &Definition,
    worktree: &Worktree<'_>,
    (good, bad): (&str, &str),
    first: First,
) -> Result<Outcome> {
    let variant = |commit: &str| Definition {
        name: format!("{}-{}", kernel.name, short(commit)),
        source: Source::Path(worktree.dir.clone()),
        patches: None,
        ..kernel.clone()
    };
    worktree.check_out(bad).await?;
    let shown = worktree.shown(bad).await?;
    judge.end(Said::Bad, bad, &shown, &variant(bad)).await?;
    worktree.check_out(good).await?;
    let shown = worktree.shown(good).await?;
    judge.end(Said::Good, good, &shown, &variant(good)).await?;
    let (old, new) = match first {
        First::Bad => (good, bad),
        First::Good => (bad, good),
    };
    let mut next = worktree.start(old, new, first).await?;
    let found = loop {
        let commit = match next {
            Next::Test(commit) => commit,
            Next::Found(commits) => break commits,
        };
        let shown = worktree.shown(&commit).await?;
        let said = judge.judge(&commit, &shown, &variant(&commit)).await?;
        next = worktree.mark(&said, first).await?;
        judge.write_log(&worktree.log().await?)?;
    };
    let log = judge.write_log(&worktree.log().await?)?;
    let mut changes = Vec::new();
    for commit in found.iter().take(NAMED_MAX) {
        changes.push(worktree.describe(commit).await?);
    }
    let parent = match &found[..] {
        [one] => worktree.parent(one).await,
        _ => None,
    };
    Ok((changes, parent, log))
}

fn short(commit: &str) -> &str {
    &commit[..commit.len().min(SHORT)]
}

/// What `git bisect` wants to be told next, or has come to.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Test(String),
    /// The commit; or several, if those between could not be tested.
    Found(Vec<String>),
}

/// The user's repository.
struct Repository<'a> {
    ctx: &'a Context,
    dir: PathBuf,
}

/// A worktree of it that is the lab's.
struct Worktree<'a> {
    ctx: &'a Context,
    repository: PathBuf,
    dir: PathBuf,
    /// Nobody else uses it as long as this is held.
    _lock: std::fs::File,
}

/// A command that runs nothing of the repository's own and asks nobody.
fn git(dir: &Path) -> Cmd {
    Cmd::new("git")
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        .args([
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.fsmonitor=false",
        ])
        .args(["-c", "advice.detachedHead=false", "-c", "gc.auto=0"])
        .dir(dir)
}

impl<'a> Repository<'a> {
    async fn new(ctx: &'a Context, dir: &Path) -> Result<Self> {
        let top = git(dir).args(["rev-parse", "--show-toplevel"]);
        let top = if dir.is_dir() {
            top.output(&ctx.cancel).await
        } else {
            Err(Error::host(format!("there is no folder {}", dir.display())))
        };
        let top = top.map_err(|error| {
            let evidence = error.evidence.first().cloned().unwrap_or(error.what);
            let what = format!("{} is no git repository", dir.display());
            Error::new(Blame::Usage, what)
                .evidence(&evidence)
                .help("write --source path:DIR")
        })?;
        let dir = PathBuf::from(top.trim_end());
        Ok(Self { ctx, dir })
    }

    /// The commit that a revision names.
    async fn commit(&self, revision: &str, option: &str) -> Result<String> {
        let wanted = format!("{revision}^{{commit}}");
        let parse = git(&self.dir).args(["rev-parse", "--verify", "--quiet", "--end-of-options"]);
        let parsed = parse.arg(wanted).output(&self.ctx.cancel).await;
        match parsed {
            Ok(commit) => Ok(commit.trim().to_owned()),
            Err(error) if error.blame == Blame::Interrupted => Err(error),
            Err(_) => {
                let what = format!("{option} {}: there is no such commit", one_line(revision));
                Err(Error::new(Blame::Usage, what).evidence(&format!("in {}", self.dir.display())))
            }
        }
    }

    async fn worktree(&self) -> Result<Worktree<'a>> {
        let name = self.dir.to_string_lossy();
        let key = KeyBuilder::new("bisect-1")
            .part("repository", name.as_bytes())
            .finish();
        let cache = &self.ctx.cache;
        let wait = || {
            self.ctx
                .events
                .note("waiting for another lab that bisects this repository")
        };
        let lock = cache
            .lock(&format!("bisect-{key}"), &self.ctx.cancel, wait)
            .await?;
        let worktree = Worktree {
            ctx: self.ctx,
            repository: self.dir.clone(),
            dir: cache.kind("bisect")?.join(key),
            _lock: lock,
        };
        // Of a lab that was killed.
        worktree.remove().await?;
        let phase = self.ctx.events.phase("check out a worktree to bisect in");
        let add = [
            "worktree",
            "add",
            "--quiet",
            "--detach",
            "--no-checkout",
            "--force",
        ];
        let add = git(&self.dir).args(add).arg(&worktree.dir).arg("HEAD");
        add.output(&self.ctx.cancel).await?;
        phase.done("made a worktree to bisect in");
        Ok(worktree)
    }
}

impl Worktree<'_> {
    fn git(&self) -> Cmd {
        git(&self.dir)
    }

    async fn output(&self, cmd: Cmd) -> Result<String> {
        cmd.output(&self.ctx.cancel).await
    }

    async fn check_out(&self, commit: &str) -> Result<()> {
        let cmd = self
            .git()
            .args(["checkout", "--quiet", "--force", "--detach", commit]);
        self.output(cmd).await.map(drop)
    }

    async fn start(&self, old: &str, new: &str, first: First) -> Result<Next> {
        // git has its own idea of what good and bad mean, and lets nobody swap them.
        let terms: &[&str] = match first {
            First::Bad => &[],
            First::Good => &["--term-old=broken", "--term-new=fixed"],
        };
        self.step(
            self.git()
                .args(["bisect", "start"])
                .args(terms)
                .args([new, old]),
        )
        .await
    }

    async fn mark(&self, said: &Said, first: First) -> Result<Next> {
        let term = match (said, first) {
            (Said::Skip(_), _) => "skip",
            (Said::Good, First::Bad) => "good",
            (Said::Bad, First::Bad) => "bad",
            (Said::Good, First::Good) => "fixed",
            (Said::Bad, First::Good) => "broken",
        };
        self.step(self.git().args(["bisect", term])).await
    }

    async fn step(&self, cmd: Cmd) -> Result<Next> {
        let mut said = Vec::new();
        let finished = cmd
            .run(&self.ctx.cancel, |line| said.push(line.to_owned()))
            .await?;
        if let Some(found) = found(&said) {
            return Ok(Next::Found(found));
        }
        if !finished.status.success() {
            let what = "git bisect cannot go on".to_owned();
            return Err(Error::new(Blame::Usage, what)
                .evidence(&finished.tail)
                .help("--good and --bad have to be commits of one history"));
        }
        let head = self.output(self.git().args(["rev-parse", "HEAD"])).await?;
        Ok(Next::Test(head.trim().to_owned()))
    }

    async fn log(&self) -> Result<String> {
        self.output(self.git().args(["bisect", "log"])).await
    }

    async fn describe(&self, commit: &str) -> Result<Change> {
        let format = "--format=%H%x00%s%x00%an <%ae>%x00%as";
        let cmd = self
            .git()
            .args(["show", "--no-patch", "--no-show-signature", format, commit]);
        let text = self.output(cmd).await?;
        let mut fields = text.trim_end().split('\0').map(str::to_owned);
        let mut field = || fields.next().unwrap_or_default();
        Ok(Change {
            id: field(),
            subject: field(),
            author: field(),
            date: field(),
        })
    }

    /// A commit in a line of progress.
    async fn shown(&self, commit: &str) -> Result<String> {
        let change = self.describe(commit).await?;
        let subject: String = change.subject.chars().take(60).collect();
        Ok(format!("{} ({})", short(commit), one_line(&subject)))
    }

    async fn parent(&self, commit: &str) -> Option<String> {
        let parent = format!("{commit}^1");
        let cmd = self
            .git()
            .args(["rev-parse", "--verify", "--quiet", &parent]);
        let parent = self.output(cmd).await.ok()?;
        Some(parent.trim().to_owned())
    }

    /// Removes it, also if the user has pressed Ctrl-C.
    async fn remove(&self) -> Result<()> {
        let cancel = tokio_util::sync::CancellationToken::new();
        let remove = ["worktree", "remove", "--force", "--force"];
        let remove = git(&self.repository).args(remove).arg(&self.dir);
        // It fails if there is none, which is as well.
        remove.run(&cancel, |_| {}).await?;
        let dir = self.dir.clone();
        blocking(move || match dir.exists() {
            true => std::fs::remove_dir_all(&dir).at("remove", &dir),
            false => Ok(()),
        })
        .await
    }
}

/// What `git bisect` has found, if it says so: `0123… is the first bad commit`, or the commits that
/// are left when all between them were skipped.
fn found(said: &[String]) -> Option<Vec<String>> {
    let is_commit = |word: &str| word.len() >= 40 && word.bytes().all(|c| c.is_ascii_hexdigit());
    let one = said.iter().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [commit, "is", "the", "first", _, "commit"] if is_commit(commit) => Some(commit),
            _ => None,
        }
    });
    if let Some(one) = one {
        return Some(vec![one.to_owned()]);
    }
    let only_skipped = |line: &String| line.starts_with("There are only 'skip'ped commits left");
    let start = said.iter().position(only_skipped)?;
    let rest = said[start..].iter().map(|line| line.trim());
    Some(
        rest.filter(|line| is_commit(line))
            .map(str::to_owned)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_has_found_is_read_from_what_it_says() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let id = "0123456789abcdef0123456789abcdef01234567";
        let one = format!("{id} is the first fixed commit\ncommit {id}\n");
        assert_eq!(found(&lines(&one)), Some(vec![id.to_owned()]));
        let several = format!(
            "There are only 'skip'ped commits left to test.\nThe first bad commit could be any of:\n\
             {id}\n{}\nWe cannot bisect more!\n",
            id.replace('0', "f")
        );
        assert_eq!(found(&lines(&several)).unwrap().len(), 2);
        let goes_on =
            format!("Bisecting: 3 revisions left to test\n[{id}] x is the first bad commit");
        assert_eq!(found(&lines(&goes_on)), None);
    }

    /// A repository with these commits, and its worktree; returns the commits' names.
    async fn history(ctx: &Context, dir: &Path, subjects: &[&str]) -> Vec<String> {
        let git = async |args: &[&str]| {
            let identity = [
                "-c",
                "user.name=Jane Doe",
                "-c",
                "user.email=jane@example.org",
            ];
            let cmd = git(dir)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .args(identity)
                .args(args);
            cmd.output(&ctx.cancel).await.unwrap().trim().to_owned()
        };
        std::fs::create_dir_all(dir).unwrap();
        git(&["init", "--quiet"]).await;
        let mut commits = Vec::new();
        for (number, subject) in subjects.iter().enumerate() {
            std::fs::write(dir.join("file"), number.to_string()).unwrap();
            git(&["add", "file"]).await;
            git(&["commit", "--quiet", "-m", subject]).await;
            commits.push(git(&["rev-parse", "HEAD"]).await);
        }
        commits
    }

    fn context(dir: &Path) -> Context {
        Context {
            project: dir.to_path_buf(),
            cache: crate::cache::Cache::at(&dir.join("cache")),
            events: crate::event::Events::channel().0,
            cancel: tokio_util::sync::CancellationToken::new(),
        }
    }

    /// What is found in a history whose commits say `said`.
    async fn walk(said: &[Said], first: First) -> (Vec<usize>, String) {
        let dir = tempfile::tempdir().unwrap();
        let ctx = context(dir.path());
        let subjects: Vec<_> = (0..said.len())
            .map(|number| format!("Commit {number}"))
            .collect();
        let subjects: Vec<_> = subjects.iter().map(String::as_str).collect();
        let repo = dir.path().join("linux");
        let commits = history(&ctx, &repo, &subjects).await;
        let repository = Repository::new(&ctx, &repo).await.unwrap();
        let last = repository.commit("HEAD", "--bad").await.unwrap();
        assert_eq!(last, commits[said.len() - 1]);
        let worktree = repository.worktree().await.unwrap();
        worktree.check_out(&last).await.unwrap();
        let mut next = worktree.start(&commits[0], &last, first).await.unwrap();
        let place = |commit: &String| commits.iter().position(|one| one == commit).unwrap();
        let found = loop {
            match next {
                Next::Found(found) => break found,
                Next::Test(commit) => {
                    let at = place(&commit);
                    let file = std::fs::read_to_string(worktree.dir.join("file")).unwrap();
                    assert_eq!(file, at.to_string(), "it is checked out");
                    next = worktree.mark(&said[at], first).await.unwrap();
                }
            }
        };
        let log = worktree.log().await.unwrap();
        let change = worktree.describe(&found[0]).await.unwrap();
        assert_eq!(change.subject, format!("Commit {}", place(&found[0])));
        assert_eq!(change.author, "Jane Doe <jane@example.org>");
        worktree.remove().await.unwrap();
        assert!(!worktree.dir.exists());
        let list = git(&repo)
            .args(["worktree", "list"])
            .output(&ctx.cancel)
            .await
            .unwrap();
        assert_eq!(list.lines().count(), 1, "{list}");
        let head = git(&repo).args(["status", "--short", "--branch"]);
        let head = head.output(&ctx.cancel).await.unwrap();
        assert_eq!(head.lines().count(), 1, "the checkout is as it was: {head}");
        let mut found: Vec<_> = found.iter().map(place).collect();
        found.sort_unstable();
        (found, log)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_first_bad_or_good_commit_is_found_in_a_worktree() {
        let (good, bad) = (Said::Good, Said::Bad);
        let skip = || Said::Skip("does not build".to_owned());
        let row = |old: &Said, new: &Said| {
            let mut row = vec![old.clone(); 4];
            row.extend(vec![new.clone(); 5]);
            row
        };
        let (found, log) = walk(&row(&good, &bad), First::Bad).await;
        assert_eq!(found, [4]);
        assert!(log.contains("git bisect start"), "{log}");
        let (found, log) = walk(&row(&bad, &good), First::Good).await;
        assert_eq!(found, [4]);
        assert!(log.contains("git bisect fixed"), "{log}");
        let mut skipped = row(&good, &bad);
        skipped[4] = skip();
        skipped[7] = skip();
        assert_eq!(walk(&skipped, First::Bad).await.0, [4, 5]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_no_repository_and_no_commit_is_a_matter_of_usage() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = context(dir.path());
        let error = Repository::new(&ctx, &dir.path().join("none"))
            .await
            .err()
            .unwrap();
        assert_eq!(error.exit_code(), 2, "{error}");
        let repo = dir.path().join("linux");
        history(&ctx, &repo, &["One"]).await;
        let repository = Repository::new(&ctx, &repo).await.unwrap();
        let error = repository.commit("--all", "--good").await.unwrap_err();
        assert_eq!(error.what, "--good --all: there is no such commit");
    }
}
