//! The manual page and the shell completions of a program, generated from its command line for packages.

use std::io::{self, Write};

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

pub mod manual;

use manual::{ManualSection, entry};

/// What to generate.
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
    /// Generates it from a program's command line. The manual page ends with `sections`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(
        self,
        mut command: Command,
        sections: &[ManualSection],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let name = command.get_name().to_owned();
        let shell = match self {
            Generate::Man => return page(command, sections, out),
            Generate::Bash => Shell::Bash,
            Generate::Zsh => Shell::Zsh,
            Generate::Fish => Shell::Fish,
        };
        // `generate` panics if it cannot write, as to a closed pipe, so it writes to memory.
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, name, &mut text);
        out.write_all(&text)
    }
}

/// One page for the program: what its command line says of itself, the options of each subcommand, and `sections`.
fn page(mut command: Command, sections: &[ManualSection], out: &mut dyn Write) -> io::Result<()> {
    command.build();
    let subcommands: Vec<Command> = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
        .cloned()
        .collect();
    // The help subcommand would refer to a page of each subcommand, which there is not.
    let command = command.disable_help_subcommand(true);
    let name = command.get_name().to_owned();
    let has_subcommands = !subcommands.is_empty();
    let man = Man::new(command);
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    if has_subcommands {
        let mut list = String::from(".SH SUBCOMMANDS\n");
        for subcommand in &subcommands {
            let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
            list += &entry(&format!("{name} {}", subcommand.get_name()), &about);
        }
        out.write_all(list.as_bytes())?;
    }
    for subcommand in subcommands {
        let heading = format!(".SH \"{} {}\"", name, subcommand.get_name()).to_uppercase();
        let actions: String = subcommand.get_subcommands().map(action).collect();
        let mut options = Vec::new();
        Man::new(subcommand).render_options_section(&mut options)?;
        let options = String::from_utf8_lossy(&options);
        out.write_all(options.replacen(".SH OPTIONS", &heading, 1).as_bytes())?;
        out.write_all(actions.as_bytes())?;
    }
    sections.iter().try_for_each(|section| out.write_all(section.roff().as_bytes()))
}

/// What a subcommand of a subcommand does, with its operands.
fn action(command: &Command) -> String {
    let operands: String = command.get_positionals().map(|operand| format!(" {operand}")).collect();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    entry(&format!("{}{operands}", command.get_name()), &about)
}
