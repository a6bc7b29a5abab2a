//! Files with secrets: read only if other users cannot, and replaced as a whole.
//!
//! Any room below may import it. It imports nothing of ours.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Longest file with secrets, in bytes. A thousand tokens take 200 kB.
const LONGEST: u64 = 4 << 20;

/// Reads a file. Its group may read it, as when root writes it for the user of a service; nobody else may, and only its owner may
/// write.
///
/// # Errors
/// The system's, or other users may read or write the file, or it is too long.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let refuse = |sentence: String| Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
    let file = File::open(path)?;
    let found = file.metadata()?;
    let mode = found.permissions().mode() & 0o777;
    if found.is_file() && mode & 0o027 != 0 {
        return refuse(format!("its mode is {mode:03o}, so that other users can get at it: chmod 600 it"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return refuse(format!("it has more than {LONGEST} bytes"));
    }
    Ok(bytes)
}

/// By which a change of a file is noticed: its device, its number, its size, and when it or its mode changed. `None` if it is not
/// there.
pub(crate) type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The stamp of a file as it is now.
pub(crate) fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

/// Replaces a file as a whole, or makes it with mode 0600, for the owner of its folder. A file that is there keeps its owner, its
/// group and its mode.
///
/// # Errors
/// The system's. The old file is then as it was.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A symbolic link stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let new = beside(&path);
    // One that was left behind by a crash.
    let _ = fs::remove_file(&new);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        if let Ok(old) = fs::metadata(&path) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
            file.set_permissions(old.permissions())?;
        } else if let Some(Ok(folder)) = path.parent().map(fs::metadata) {
            // Root writes for the user of a service. Others may not give files away.
            let _ = fchown(&file, Some(folder.uid()), Some(folder.gid()));
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&new)))
}

/// The name under which a file is written before it is complete.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_that_others_may_read_or_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        replace(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for (mode, right) in
            [(0o600, true), (0o400, true), (0o640, true), (0o660, false), (0o604, false), (0o602, false)]
        {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), right, "{mode:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let sentence = read(&path).unwrap_err().to_string();
        assert_eq!(sentence, "its mode is 644, so that other users can get at it: chmod 600 it");
    }

    #[test]
    fn a_file_is_replaced_where_a_link_points_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link] = ["secret", "link"].map(|name| folder.path().join(name));
        replace(&path, b"one").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        replace(&link, b"two").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!((read(&path).unwrap(), fs::read_dir(folder.path()).unwrap().count()), (b"two".into(), 2));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        replace(&path, &vec![b'#'; LONGEST as usize]).unwrap();
        assert!(read(&path).is_ok());
        replace(&path, &vec![b'#'; LONGEST as usize + 1]).unwrap();
        assert_eq!(read(&path).unwrap_err().to_string(), "it has more than 4194304 bytes");
    }
}
