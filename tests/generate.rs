//! The manual pages and completions that packages ship are generated from the command lines, so they name every option. Wrong
//! command lines are answered in plain sentences.

use std::collections::BTreeSet;
use std::process::Command;

const PROGRAMS: [(&str, &str); 2] =
    [("broadcaster", env!("CARGO_BIN_EXE_broadcaster")), ("viewer", env!("CARGO_BIN_EXE_viewer"))];

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The options that a help text names, without `--`.
fn options(help: &str) -> impl Iterator<Item = String> {
    help.split_whitespace().filter_map(|word| {
        let name: String =
            word.strip_prefix("--")?.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        (!name.is_empty()).then_some(name)
    })
}

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<&str> {
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A description may continue on the next line, indented further.
    let names = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect()
}

#[test]
fn every_option_is_named() {
    for (name, program) in PROGRAMS {
        let help = said(program, &["-h"]);
        let mut all: BTreeSet<String> = options(&help).collect();
        let of = |command: &&str| -> Vec<String> {
            let help = said(program, &[command, "-h"]);
            subcommands(&help).into_iter().map(str::to_owned).collect()
        };
        let actions: Vec<String> = subcommands(&help).iter().flat_map(of).collect();
        assert_eq!(actions.contains(&"resume".to_owned()), name == "broadcaster");
        let subcommands = subcommands(&help);
        assert_eq!(subcommands.contains(&"sdp"), name == "broadcaster");
        for subcommand in &subcommands {
            all.extend(options(&said(program, &[subcommand, "-h"])));
        }
        assert!(all.contains("version") && all.len() >= 3, "{all:?}");
        for (kind, marker) in
            [("man", ".TH "), ("bash", "complete -F"), ("zsh", "#compdef "), ("fish", "complete -c ")]
        {
            let text = said(program, &["--generate", kind]);
            assert!(text.contains(marker), "{kind} of {name}");
            // fish writes `-l option`; roff escapes hyphens.
            let plain = text.replace("\\-", "-").replace(" -l ", " --");
            for option in &all {
                let found = plain.match_indices(&format!("--{option}")).any(|(at, found)| {
                    !plain[at + found.len()..].starts_with(|c: char| c.is_ascii_lowercase() || c == '-')
                });
                assert!(found, "--{option} is not in the {kind} of {name}");
            }
            for subcommand in subcommands.iter().copied().chain(actions.iter().map(String::as_str)) {
                assert!(text.contains(subcommand), "{subcommand} is not in the {kind} of {name}");
            }
            let sections =
                ["KEYS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO", "DESCRIPTION"];
            for section in sections.iter().filter(|_| kind == "man") {
                let heading = format!("\n.SH \"{section}\"\n");
                let is_there = text.contains(&heading) || text.contains(&heading.replace('"', ""));
                assert!(is_there, "{section} is not in the man of {name}");
            }
        }
    }
}

/// groff reports what it does not understand.
#[test]
fn the_manual_pages_are_sound_roff() {
    for (name, program) in PROGRAMS {
        let page = said(program, &["--generate", "man"]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), page).unwrap();
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(file.path())
            .env("LC_ALL", "C.UTF-8");
        let output = man.output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaints.is_empty(), "{name}: {complaints}");
    }
}

#[test]
fn a_wrong_command_line_is_answered_with_a_plain_sentence() {
    let [(_, broadcaster), (_, viewer)] = PROGRAMS;
    let cases: [(&str, &[&str], &str); 7] = [
        (
            viewer,
            &["--json"],
            "error: --json needs --list, --headless or --probe: a window has no result to print\n",
        ),
        (viewer, &["--headless", "--frames", "0"], "--frames <N>': write a whole number, 1 or more\n"),
        (viewer, &["--headless", "--zap", "x"], "--zap <N>': write a whole number, 1 or more\n"),
        (viewer, &["--station", "1000"], "--station <NUMBER>': a station has a number from 1 to 999\n"),
        (
            viewer,
            &["--probe", "--rtp", "239.1.1.1:5004", "--clock", "0"],
            "': write a whole number of Hz, 1 or more\n",
        ),
        (broadcaster, &["sdp", "0"], "<NUMBER>': a station has a number from 1 to 999\n"),
        (broadcaster, &["check", "--fast", "--films"], "'--fast' cannot be used with '--films'\n"),
    ];
    for (program, args, sentence) in cases {
        let output = Command::new(program).args(args).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(sentence) && !text.contains(".."), "{args:?}: {text}");
    }
}
