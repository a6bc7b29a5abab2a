//! Follows the file of the line-up: notices that it has another content, however that came about.
//!
//! The folders are watched, not the file: editors and `mv` put another file in its place, and a symbolic link may come to lead
//! elsewhere. Contents are compared, so a file that was only touched is the same. A file that somebody still writes is not read.
//! Changes of which the kernel does not tell, as on network shares, are found by looking.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use blake3::Hash;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

/// Time without an event until the file is read: what belongs together, as a removal and a move, comes at once.
const SETTLING: Duration = Duration::from_millis(100);

/// How long after its last change a file that somebody has open for writing is taken to be written.
const WRITING: Duration = Duration::from_secs(5);

/// How often the file is read without an event.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Most symbolic links on the way to a file, as in the kernel.
const MOST_LINKS: usize = 40;

/// The folders on the way to a file in which it may be replaced, and the name in each: that of every symbolic link on the way, and
/// at last its own. A path that is not there has no links.
fn places(file: &Path) -> Vec<(PathBuf, OsString)> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut left: VecDeque<OsString> = names(&file);
    let mut folder = PathBuf::from("/");
    let mut places = Vec::new();
    while let Some(name) = left.pop_front() {
        if name == ".." {
            folder.pop();
            continue;
        }
        let path = folder.join(&name);
        match fs::read_link(&path) {
            Ok(target) if places.len() < MOST_LINKS => {
                if target.is_absolute() {
                    places.push((std::mem::replace(&mut folder, "/".into()), name));
                } else {
                    places.push((folder.clone(), name));
                }
                for name in names(&target).into_iter().rev() {
                    left.push_front(name);
                }
            }
            _ if left.is_empty() => places.push((folder.clone(), name)),
            _ => folder = path,
        }
    }
    places
}

/// The names of a path, and `..`.
fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// A file whose content is followed.
pub(super) struct FollowedFile {
    file: PathBuf,
    /// `None` if the kernel has none to give.
    inotify: Option<AsyncFd<OwnedFd>>,
    places: Vec<(PathBuf, OsString)>,
    /// The content that was told last.
    told: Option<Hash>,
    /// When somebody who has the file open changed it last.
    written: Option<Instant>,
    /// Whether the log has it that the file is gone.
    is_gone: bool,
}

impl FollowedFile {
    /// Follows `file`, which may have changed already.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types whose descriptor may change: this one's does not"
    )]
    pub(super) fn new(file: PathBuf) -> FollowedFile {
        let inotify =
            inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(std::io::Error::from);
        let inotify = inotify.and_then(AsyncFd::new);
        let inotify = inotify.inspect_err(|error| {
            warn!(
                "{} is read every {} s, since its folder cannot be watched: {error}",
                file.display(),
                LOOK_EVERY.as_secs()
            );
        });
        FollowedFile {
            file,
            inotify: inotify.ok(),
            places: Vec::new(),
            told: None,
            written: None,
            is_gone: false,
        }
    }

    /// Waits until the file has another content than was told last. The first one always is another one. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        loop {
            self.watch_places().await;
            self.take_events();
            if !self.is_written() {
                let content = self.content().await;
                self.take_events();
                match content {
                    // Somebody has begun to write it meanwhile.
                    _ if self.is_written() => {}
                    Some(content) => {
                        self.is_gone = false;
                        if self.told != Some(content) {
                            self.told = Some(content);
                            return;
                        }
                    }
                    None if !std::mem::replace(&mut self.is_gone, true) => {
                        warn!("{} cannot be read; the line-up on air stays as it is", self.file.display());
                    }
                    None => {}
                }
            }
            let _ = timeout(LOOK_EVERY, self.event()).await;
            // More may belong to it.
            while timeout(SETTLING, self.event()).await.is_ok() {}
        }
    }

    /// The content of the file, once it is the same twice; `None` if it cannot be read.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits for a file")]
    async fn content(&self) -> Option<Hash> {
        let mut before = self.read().await;
        if before == self.told && before.is_some() {
            return before;
        }
        loop {
            sleep(SETTLING).await;
            let now = self.read().await;
            if now == before {
                return now;
            }
            before = now;
        }
    }

    async fn read(&self) -> Option<Hash> {
        let file = self.file.clone();
        let read = move || fs::read(file).ok().map(|bytes| blake3::hash(&bytes));
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Watches the folders on the way to the file as it is now.
    async fn watch_places(&mut self) {
        let file = self.file.clone();
        self.places = tokio::task::spawn_blocking(move || places(&file)).await.unwrap_or_default();
        let Some(inotify) = &self.inotify else { return };
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        for (folder, _) in &self.places {
            // Watching a folder again changes nothing. One that is gone is looked for every few seconds.
            let _ = inotify::add_watch(inotify.get_ref(), folder, flags);
        }
    }

    /// Whether somebody has the file open who writes it.
    #[expect(clippy::disallowed_methods, reason = "a shell: it knows when a file was written")]
    fn is_written(&self) -> bool {
        self.written.is_some_and(|written| written.elapsed() < WRITING)
    }

    /// Waits for an event of one of the names on the way to the file. Without inotify, for ever.
    async fn event(&mut self) {
        loop {
            let Some(inotify) = &self.inotify else { return std::future::pending().await };
            let Ok(mut ready) = inotify.readable().await else { return std::future::pending().await };
            ready.clear_ready();
            if self.take_events() {
                return;
            }
        }
    }

    /// Takes all events that are there. Returns whether there is one of the names on the way to the file.
    #[expect(clippy::disallowed_methods, reason = "a shell: it knows when a file was written")]
    fn take_events(&mut self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(inotify.get_ref(), &mut buffer);
        let mut is_ours = false;
        while let Ok(event) = events.next() {
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            if !self.places.iter().any(|(_, known)| Some(known.as_os_str()) == name) {
                continue;
            }
            is_ours = true;
            let what = event.events();
            let begins =
                what.contains(ReadFlags::MODIFY) || what.contains(ReadFlags::CREATE) && is_new(&self.file);
            self.written = begins.then(Instant::now);
        }
        is_ours
    }
}

/// Whether the file was just made, to be written, and not linked from elsewhere.
fn is_new(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|found| found.is_file() && found.nlink() == 1)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// Long enough for any machine.
    const SOON: Duration = Duration::from_secs(30);

    /// A followed file with the content "0", which was told.
    async fn followed() -> (TempDir, PathBuf, FollowedFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stations.toml");
        fs::write(&file, "0").unwrap();
        let mut followed = FollowedFile::new(file.clone());
        followed.changed().await;
        (folder, file, followed)
    }

    /// Waits until a change is told, and checks that the content is this one then.
    async fn is_told(followed: &mut FollowedFile, content: &str) {
        timeout(SOON, followed.changed())
            .await
            .unwrap_or_else(|_| panic!("no change to {content:?} is told"));
        assert_eq!(followed.told, Some(blake3::hash(content.as_bytes())), "{content:?}");
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_told_once() {
        let (folder, file, mut followed) = followed().await;
        fs::write(&file, "in place").unwrap();
        is_told(&mut followed, "in place").await;
        let beside = folder.path().join("stations.toml~");
        fs::write(&beside, "moved").unwrap();
        fs::rename(&beside, &file).unwrap();
        is_told(&mut followed, "moved").await;
        // As editors do that keep the old one.
        fs::rename(&file, &beside).unwrap();
        fs::write(&file, "written anew").unwrap();
        is_told(&mut followed, "written anew").await;
        // Removed, and the same again: no change.
        fs::remove_file(&file).unwrap();
        fs::write(&file, "written anew").unwrap();
        fs::write(folder.path().join("other"), "x").unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(folder.path().join("two"), "two").unwrap();
        symlink("two", &file).unwrap();
        is_told(&mut followed, "two").await;
        fs::write(folder.path().join("two"), "two in place").unwrap();
        is_told(&mut followed, "two in place").await;
    }

    #[tokio::test]
    async fn a_folder_that_is_swapped_by_a_link_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for version in ["1", "2"] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("stations.toml"), version).unwrap();
        }
        symlink("1", path("..data")).unwrap();
        symlink("..data/stations.toml", path("stations.toml")).unwrap();
        let mut followed = FollowedFile::new(path("stations.toml"));
        is_told(&mut followed, "1").await;
        symlink("2", path("..new")).unwrap();
        fs::rename(path("..new"), path("..data")).unwrap();
        is_told(&mut followed, "2").await;
        // What is changed where the links lead now.
        fs::write(path("2").join("stations.toml"), "3").unwrap();
        is_told(&mut followed, "3").await;
    }

    #[tokio::test]
    async fn a_file_that_is_still_written_is_not_read() {
        let (_folder, file, mut followed) = followed().await;
        let mut writing = fs::File::create(&file).unwrap();
        writing.write_all(b"half").unwrap();
        // It is open for writing: nothing is told, however long that takes, up to a limit.
        let half = timeout(SETTLING * 10, followed.changed()).await;
        assert!(half.is_err(), "{:?}", followed.told);
        writing.write_all(b" and half").unwrap();
        drop(writing);
        is_told(&mut followed, "half and half").await;
    }

    #[test]
    fn the_places_of_a_file_are_those_of_all_links_on_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir(root.join("a")).unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        symlink(root.join("a"), root.join("b")).unwrap();
        symlink("../b/./file", root.join("a/link")).unwrap();
        let place = |folder: &str, name: &str| (root.join(folder), OsString::from(name));
        assert_eq!(places(&root.join("a/file")), [place("a", "file")]);
        assert_eq!(places(&root.join("b/file")), [place("", "b"), place("a", "file")]);
        assert_eq!(places(&root.join("a/link")), [place("a", "link"), place("", "b"), place("a", "file")]);
        assert_eq!(places(&root.join("none")), [place("", "none")]);
        symlink("round", root.join("round")).unwrap();
        assert!(places(&root.join("round")).len() <= MOST_LINKS + 1);
    }
}
