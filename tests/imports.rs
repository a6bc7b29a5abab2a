//! Each room of the library imports only rooms above it, in the order of the list on the front page of `src/lib.rs`. Tests may
//! import any room.

use std::fs;
use std::path::Path;

/// The code of a file that is built without tests, without comments. rustfmt has put each attribute on a line of its own, and the
/// end of a longer item on a line with the same indentation.
fn code(text: &str) -> String {
    let (mut code, mut lines) = (String::new(), text.lines());
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if ["#[cfg(test)", "#[cfg(all(test"].iter().any(|test| line.trim_start().starts_with(test)) {
            let item = lines.find(|line| !line.trim_start().starts_with("#[")).unwrap_or_default();
            if !item.ends_with([';', ',', '}']) {
                lines.find(|line| line.strip_prefix(indent).is_some_and(|line| line.starts_with('}')));
            }
            continue;
        }
        code = code + line.split("//").next().unwrap_or_default() + "\n";
    }
    code
}

/// The modules that code declares, each in a file of its own.
fn modules(code: &str) -> Vec<&str> {
    let declared = |line: &str| line.trim_start().starts_with("mod ") || line.trim_start().starts_with("pub");
    let declarations = code.lines().filter(|line| declared(line));
    declarations.filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';')).collect()
}

/// Adds to `wrong` each import of a room of `below` by the module `name` in `folder` and by the modules in it.
fn check(folder: &Path, name: &str, below: &[&str], wrong: &mut Vec<String>) {
    let folder = folder.join(name);
    let file = Some(folder.with_extension("rs")).filter(|file| file.exists());
    let file = file.unwrap_or(folder.join("mod.rs"));
    let code = code(&fs::read_to_string(&file).unwrap());
    for rest in code.split("crate::").skip(1) {
        let group = rest.strip_prefix('{').and_then(|group| group.split(';').next());
        let names = group.unwrap_or(rest).split(|c: char| !c.is_alphanumeric() && c != '_');
        let mut names = names.take(if group.is_some() { usize::MAX } else { 1 });
        if let Some(room) = names.find(|name| below.contains(name)) {
            wrong.push(format!("{} imports {room}, a room below it", file.display()));
        }
    }
    modules(&code).into_iter().for_each(|name| check(&folder, name, below, wrong));
}

/// The imports against the order in the library at `src`.
fn imports_against_the_order(src: &Path) -> Vec<String> {
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let list = lib.lines().skip_while(|line| !line.starts_with("//! - ")).take_while(|line| *line != "//!");
    let (code, mut rooms) = (code(&lib), Vec::new());
    let declared = modules(&code);
    for name in list.flat_map(|line| line.split('`')).filter(|name| declared.contains(name)) {
        if !rooms.contains(&name) {
            rooms.push(name);
        }
    }
    assert_eq!(rooms.len(), declared.len(), "the front page of lib.rs lists {rooms:?} of {declared:?}");
    let mut wrong = Vec::new();
    rooms.iter().enumerate().for_each(|(n, room)| check(src, room, &rooms[n + 1..], &mut wrong));
    wrong
}

#[test]
fn each_room_imports_only_rooms_above_it() {
    let wrong = imports_against_the_order(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
