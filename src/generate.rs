//! What packages ship beside a program, made from its command line: the manual page, and completions for shells.

use std::io::{self, Write};

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Generate {
    /// The manual page, section 1, in roff.
    Man,
    /// Completions for bash.
    Bash,
    /// Completions for zsh.
    Zsh,
    /// Completions for fish.
    Fish,
}

impl Generate {
    /// Makes it of a program's command line.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(self, mut command: Command, out: &mut dyn Write) -> io::Result<()> {
        let name = command.get_name().to_owned();
        let shell = match self {
            Generate::Man => return manual(command, out),
            Generate::Bash => Shell::Bash,
            Generate::Zsh => Shell::Zsh,
            Generate::Fish => Shell::Fish,
        };
        // It panics where it cannot write, as into a pipe that was closed.
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, name, &mut text);
        out.write_all(&text)
    }
}

/// One page: the program's, and then the options of each subcommand.
fn manual(mut command: Command, out: &mut dyn Write) -> io::Result<()> {
    command.build();
    let subcommands: Vec<Command> = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
        .cloned()
        .collect();
    // `check` has no page of its own to refer to.
    let command = command.disable_help_subcommand(true);
    let name = command.get_name().to_owned();
    Man::new(command).render(out)?;
    for subcommand in subcommands {
        let heading = format!(".SH \"{} {}\"", name, subcommand.get_name()).to_uppercase();
        let mut options = Vec::new();
        Man::new(subcommand).render_options_section(&mut options)?;
        let options = String::from_utf8_lossy(&options);
        out.write_all(options.replacen(".SH OPTIONS", &heading, 1).as_bytes())?;
    }
    Ok(())
}
