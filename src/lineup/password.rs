//! Where the password of a live source is: never in the line-up itself, whose lines are logged.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// Most bytes of a password.
const MOST_PASSWORD: u64 = 1024;

/// Where the password of a live source is. It is read anew for each connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PasswordPlace {
    /// The first line of this file.
    File(PathBuf),
    /// This variable of the environment.
    Variable(String),
}

impl PasswordPlace {
    /// The password. May block, since a disk may.
    ///
    /// # Errors
    /// The sentence that says why there is none.
    pub(super) fn read(&self) -> Result<String, String> {
        match self {
            PasswordPlace::Variable(name) => std::env::var(name)
                .map_err(|_| format!("the variable {name}, which should hold the password, is not set")),
            PasswordPlace::File(path) => {
                let failed =
                    |why: &str| format!("the password cannot be read from {}: {why}", path.display());
                let mut text = String::new();
                let file = File::open(path).map_err(|error| failed(&error.to_string()))?;
                file.take(MOST_PASSWORD)
                    .read_to_string(&mut text)
                    .map_err(|error| failed(&error.to_string()))?;
                let line = text.lines().next().filter(|line| !line.is_empty());
                line.map(str::to_owned).ok_or_else(|| failed("its first line is empty"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("camera.password");
        let place = PasswordPlace::File(path.clone());
        let fault = place.read().unwrap_err();
        assert!(fault.starts_with("the password cannot be read from "), "{fault}");
        std::fs::write(&path, "\nsecret").unwrap();
        assert!(place.read().unwrap_err().ends_with("its first line is empty"));
        std::fs::write(&path, "sec ret\r\nmore").unwrap();
        assert_eq!(place.read().unwrap(), "sec ret");
        let fault = PasswordPlace::Variable("STATIONCAST_NO_SUCH_VARIABLE".into()).read().unwrap_err();
        assert!(fault.contains("STATIONCAST_NO_SUCH_VARIABLE"), "{fault}");
    }
}
