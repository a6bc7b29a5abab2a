use std::fs;

use tempfile::TempDir;

use super::*;
use crate::access::{ADMIN, Terms};

const HOUR: Duration = Duration::from_secs(3600);

fn visitor(address: &str, tls: bool) -> Visitor {
    Visitor { address: address.parse().unwrap(), tls, service: "http" }
}

fn lasting(lasts: Duration) -> Terms {
    Terms { lasts: Some(lasts), admin: false }
}

fn shows(name: &str, secret: &str) -> Credentials {
    Credentials { name: name.into(), secret: Secret::new(secret.into()) }
}

/// A gatekeeper with a file that `change` has written.
fn with(folder: &TempDir, change: impl FnOnce(&mut Keys, SystemTime)) -> Gatekeeper {
    let file = folder.path().join("access.toml");
    rewrite(&file, change);
    Gatekeeper::open(&file).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test counts from now")]
fn rewrite(file: &Path, change: impl FnOnce(&mut Keys, SystemTime)) {
    let mut keys = read_or_none(file).unwrap();
    change(&mut keys, SystemTime::now());
    keys.write(file).unwrap();
}

#[tokio::test]
async fn who_has_admin_may_change_what_is_on_air_and_sees_every_station() {
    let folder = TempDir::new().unwrap();
    let mut tokens = Vec::new();
    let gatekeeper = with(&folder, |keys, now| {
        let admin = Terms { admin: true, ..Terms::default() };
        tokens.push(keys.add_token("anna", now, admin).unwrap().1);
        tokens.push(keys.add_token("anna", now, Terms::default()).unwrap().1);
        tokens.push(keys.add_token(ADMIN, now, Terms::default()).unwrap().1);
    });
    let far = visitor("192.0.2.7", true);
    let mut may = Vec::new();
    for token in &tokens {
        let grant = gatekeeper.admit(far, shows("", token.reveal())).await.unwrap();
        let operator = gatekeeper.operator(far, &grant);
        assert_eq!(operator.is_ok(), grant.allows(&["staff".into()]));
        may.push(operator.map(|who| who.split(" (").next().unwrap().to_owned()));
    }
    assert_eq!(may, [Ok("\"anna\"".into()), Err(NotAdmin::Watcher), Ok("\"admin\"".into())]);
    let nobody = Grant::default();
    assert_eq!(gatekeeper.operator(far, &nobody), Err(NotAdmin::Unknown));
    assert_eq!(gatekeeper.operator(visitor("127.0.0.1", false), &nobody), Err(NotAdmin::Unknown));
    assert_eq!(gatekeeper.operator(visitor("192.0.2.7", false), &nobody), Err(NotAdmin::Plain));

    // A log-in has it for as long as its token does.
    let grant = gatekeeper.admit(far, shows("", tokens[0].reveal())).await.unwrap();
    rewrite(&folder.path().join("access.toml"), |keys, _| drop(keys.remove("anna")));
    gatekeeper.refresh();
    assert_eq!(gatekeeper.operator(far, &grant), Err(NotAdmin::Watcher));
}

#[tokio::test]
async fn tokens_and_passwords_are_let_in_and_nothing_else_is() {
    let folder = TempDir::new().unwrap();
    let mut tokens = Vec::new();
    let gatekeeper = with(&folder, |keys, now| {
        tokens.push(keys.add_token("staff", now, Terms::default()).unwrap().1);
        tokens.push(keys.add_token("staff", now, lasting(HOUR)).unwrap().1);
        tokens.push(keys.add_token("guests", now - HOUR * 2, lasting(HOUR)).unwrap().1);
        tokens.push(keys.add_token(ADMIN, now, Terms::default()).unwrap().1);
        keys.add_password("staff", &Secret::new("correct horse".into()), now, Terms::default()).unwrap();
        keys.add_password("old", &Secret::new("battery staple".into()), now - HOUR * 2, lasting(HOUR))
            .unwrap();
    });
    let far = visitor("192.0.2.7", true);
    let admit = async |visitor, name: &str, secret: &str| {
        let grant = gatekeeper.admit(visitor, shows(name, secret)).await?;
        Ok(grant.name().unwrap().to_owned())
    };
    let [first, second, over, admin] = [0, 1, 2, 3].map(|n| tokens[n].reveal());
    assert_eq!(admit(far, "", first).await, Ok("staff".to_owned()));
    assert_eq!(admit(far, "whoever", second).await, Ok("staff".to_owned()));
    assert_eq!(admit(far, "", admin).await, Ok(ADMIN.to_owned()));
    assert_eq!(admit(far, "staff", "correct horse").await, Ok("staff".to_owned()));
    for (name, secret) in [
        ("", over),
        ("old", "battery staple"),
        ("staff", "battery staple"),
        ("nobody", "correct horse"),
        ("", "correct horse"),
        ("staff", ""),
        ("staff", &first[..first.len() - 1]),
        ("staff", "sct_"),
    ] {
        assert_eq!(admit(far, name, secret).await, Err(Denied::Wrong), "{name} {secret}");
    }
    assert_eq!(admit(visitor("192.0.2.8", false), "", first).await, Err(Denied::Plain));
    assert_eq!(admit(visitor("127.0.0.1", false), "", first).await, Ok("staff".to_owned()));
    assert_eq!(admit(visitor("::ffff:127.0.0.1", false), "", first).await, Ok("staff".to_owned()));
    let text = fs::read_to_string(folder.path().join("access.toml")).unwrap();
    for secret in tokens.iter().map(Secret::reveal).chain(["correct horse"]) {
        assert!(!text.contains(secret) && !format!("{:?}", gatekeeper.keys.borrow()).contains(secret));
    }
    assert_eq!(format!("{:?}", shows("staff", first)), "Credentials { name: \"staff\", secret: Secret }");
}

#[tokio::test]
async fn ten_thousand_wrong_tokens_get_nobody_in_and_take_no_memory() {
    let folder = TempDir::new().unwrap();
    let mut token = None;
    let gatekeeper =
        with(&folder, |keys, now| token = Some(keys.add_token("staff", now, Terms::default()).unwrap().1));
    let token = token.unwrap();
    let (mut wrong, mut ignored) = (0, 0);
    for n in 0..10_000 {
        let guess = format!("sct_{n:064x}");
        match gatekeeper.admit(visitor("192.0.2.7", true), shows("", &guess)).await {
            Err(Denied::Wrong) => wrong += 1,
            Err(Denied::TooMany(_)) => ignored += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!((10..100).contains(&wrong) && wrong + ignored == 10_000, "{wrong} were looked at");
    // The address has to wait even with the right one; others have not.
    let right = || shows("", token.reveal());
    let denied = gatekeeper.admit(visitor("192.0.2.7", true), right()).await.unwrap_err();
    assert!(matches!(denied, Denied::TooMany(_)), "{denied}");
    gatekeeper.admit(visitor("192.0.2.8", true), right()).await.unwrap();
    assert!(gatekeeper.sessions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_grant_ends_with_its_entry() {
    let folder = TempDir::new().unwrap();
    let mut added = None;
    let gatekeeper =
        with(&folder, |keys, now| added = Some(keys.add_token("staff", now, Terms::default()).unwrap()));
    let (id, token) = added.unwrap();
    let grant = gatekeeper.admit(visitor("192.0.2.7", true), shows("", token.reveal())).await.unwrap();
    let access = ["guests".to_owned(), "staff".to_owned()];
    assert!(grant.allows(&access) && grant.allows(&[]) && !grant.allows(&access[..1]));
    assert!(!Grant::default().allows(&access) && Grant::default().allows(&[]));
    assert!(!grant.is_over());
    let file = folder.path().join("access.toml");
    rewrite(&file, |keys, now| drop(keys.add_token("other", now, Terms::default()).unwrap()));
    assert!(!gatekeeper.refresh(), "nobody has lost anything");
    assert!(!grant.is_over(), "another entry is none of its business");
    // A file that is wrong changes nothing.
    fs::write(&file, "[[access]]\nid = 7\n").unwrap();
    gatekeeper.refresh();
    assert!(!grant.is_over());
    fs::remove_file(&file).unwrap();
    assert!(gatekeeper.refresh(), "everybody has");
    assert!(!gatekeeper.refresh(), "that is told once");
    assert!(grant.is_over());
    grant.over().await;
    rewrite(&file, |keys, _| assert!(keys.remove(&id).is_empty()));
    gatekeeper.refresh();
    let denied = gatekeeper.admit(visitor("192.0.2.7", true), shows("", token.reveal())).await;
    assert_eq!(denied.unwrap_err(), Denied::Wrong);
}

#[tokio::test]
async fn a_log_in_lasts_as_long_as_its_entry_and_is_shown_by_tls_only() {
    let folder = TempDir::new().unwrap();
    let mut added = None;
    let gatekeeper =
        with(&folder, |keys, now| added = Some(keys.add_token("staff", now, lasting(HOUR)).unwrap()));
    let (id, token) = added.unwrap();
    let safe = visitor("192.0.2.7", true);
    let grant = gatekeeper.admit(safe, shows("", token.reveal())).await.unwrap();
    let (cookie, lasts) = gatekeeper.log_in(&grant).unwrap();
    assert!(lasts <= HOUR && lasts > HOUR / 2);
    assert!(gatekeeper.log_in(&Grant::default()).is_err());
    let name = |visitor, cookie: &Secret| gatekeeper.logged_in(visitor, cookie)?.name().map(str::to_owned);
    assert_eq!(name(safe, &cookie), Some("staff".to_owned()));
    assert_eq!(name(visitor("192.0.2.7", false), &cookie), None);
    assert_eq!(name(safe, &Secret::new("0".repeat(64))), None);
    let (other, _) = gatekeeper.log_in(&grant).unwrap();
    gatekeeper.log_out(&other);
    assert_eq!((name(safe, &other), name(safe, &cookie)), (None, Some("staff".to_owned())));
    for _ in 0..SESSIONS {
        gatekeeper.log_in(&grant).unwrap();
    }
    assert_eq!(gatekeeper.sessions.lock().unwrap().len(), SESSIONS);
    let (cookie, _) = gatekeeper.log_in(&grant).unwrap();
    rewrite(&folder.path().join("access.toml"), |keys, _| assert_eq!(keys.remove(&id).len(), 1));
    gatekeeper.refresh();
    assert_eq!(name(safe, &cookie), None);
}

#[test]
fn a_file_that_is_wrong_is_refused_in_a_sentence_without_a_secret() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("access.toml");
    rewrite(&file, |keys, now| {
        keys.add_token("staff", now, Terms::default()).unwrap();
        keys.add_password("staff", &Secret::new("correct horse".into()), now, lasting(HOUR)).unwrap();
    });
    let right = fs::read_to_string(&file).unwrap();
    let read = |text: &str| {
        fs::write(&file, text).unwrap();
        Keys::read(&file).map(|keys| keys.entries().len()).map_err(|error| error.to_string())
    };
    assert_eq!((read(&right), read(""), read("# nobody")), (Ok(2), Ok(0), Ok(0)));
    let id = Keys::read(&file).map(drop).and_then(|()| {
        fs::write(&file, &right)?;
        Ok(Keys::read(&file)?.entries()[0].id.clone())
    });
    let id = id.unwrap();
    for (from, to, sentence) in [
        ("name = \"staff\"", "name = \"a b\"", format!("the entry {id:?} is not whole")),
        ("sha256 = \"", "sha256 = \"00", format!("the entry {id:?} is not whole")),
        ("sha256", "sha255", "unknown field".into()),
        ("[[access]]", "[[access]", "line ".into()),
    ] {
        let error = read(&right.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(&sentence), "{from}: {error}");
    }
    let twice = format!(
        "{right}\n{}",
        right.split("[[access]]").nth(1).map(|entry| format!("[[access]]{entry}")).unwrap()
    );
    assert_eq!(read(&twice), Err(format!("the entry {id:?} is there twice")));
}

#[test]
fn names_passwords_and_times_have_rules() {
    let mut keys = Keys::default();
    let now = SystemTime::UNIX_EPOCH + HOUR * 500_000;
    for name in ["", "a b", "a\"b", "a/b", "é", &"a".repeat(33)] {
        assert!(keys.add_token(name, now, Terms::default()).is_err(), "{name}");
    }
    let password = |text: &str| Secret::new(text.into());
    assert!(
        keys.add_password("staff", &password("too short"), now, Terms::default())
            .unwrap_err()
            .contains("at least 10")
    );
    assert!(
        keys.add_password("staff", &password(&"x".repeat(257)), now, Terms::default())
            .unwrap_err()
            .contains("256")
    );
    assert!(keys.add_password("staff", &password("sct_0123456789"), now, Terms::default()).is_err());
    keys.add_password("staff", &password("correct horse"), now, Terms::default()).unwrap();
    let twice = keys.add_password("staff", &password("correct horse"), now, Terms::default()).unwrap_err();
    assert_eq!(twice, "\"staff\" has a password already: remove it first");
    assert!(keys.add_token("staff", now, lasting(Duration::from_secs(u64::MAX))).is_err());
    assert!(keys.add_token("staff", now, lasting(HOUR * 24 * 365 * 9000)).is_err());
    let (id, _) = keys.add_token("staff", now, Terms::default()).unwrap();
    keys.add_token("guests", now, Terms::default()).unwrap();
    assert_eq!(keys.remove(&id).len(), 1);
    assert_eq!(keys.remove("staff").len(), 1);
    assert_eq!((keys.remove("staff").len(), keys.entries().len()), (0, 1));
}
