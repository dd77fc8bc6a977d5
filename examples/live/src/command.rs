//! Which commands may be run.

use std::fmt;

use tokio::process::Command;

/// A script that looks like a build, for the first job and for anyone who asks for `demo`.
const DEMO: &str = include_str!("demo.sh");

/// The programs of the allow-list, and the options that each may be given.
///
/// Options are named one by one, as one of `find` runs commands and another deletes files.
const ALLOWED: &[(&str, &[&str])] = &[
    ("date", &[]),
    ("df", &["-h"]),
    ("dpkg", &["-l"]),
    ("echo", &[]),
    ("false", &[]),
    ("find", &["-maxdepth", "-name", "-type"]),
    ("ls", &["-a", "-l", "-la"]),
    ("ps", &["-e", "-f", "-ef"]),
    ("seq", &[]),
    ("sleep", &[]),
    ("uname", &["-a"]),
];

/// Why a command is not run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The command line is empty.
    Empty,
    /// The program is not on the list.
    Program(String),
    /// The program may not be given this option.
    Option(String, String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no command"),
            Self::Program(program) => {
                write!(f, "{program:?} is not on the list of commands: demo")?;
                { ALLOWED.iter() }.try_for_each(|(name, _)| write!(f, ", {name}"))
            }
            Self::Option(program, option) => write!(f, "{program} may not be given {option:?}"),
        }
    }
}

impl std::error::Error for Refused {}

/// Makes a process of a command line: words between spaces, which no shell looks at.
///
/// # Errors
///
/// [`Refused`] if the line is not on the allow-list, unless `any` command may run.
pub(crate) fn parse(line: &str, any: bool) -> Result<Command, Refused> {
    let mut words = line.split_whitespace();
    let program = words.next().ok_or(Refused::Empty)?;
    if program == "demo" {
        let mut command = Command::new("sh");
        command.arg("-c").arg(DEMO);
        return Ok(command);
    }
    let args: Vec<&str> = words.collect();
    if !any {
        check(program, &args)?;
    }
    let mut command = Command::new(program);
    command.args(args);
    Ok(command)
}

fn check(program: &str, args: &[&str]) -> Result<(), Refused> {
    let allowed = ALLOWED.iter().find(|(name, _)| *name == program);
    let (_, options) = allowed.ok_or_else(|| Refused::Program(program.to_owned()))?;
    let refused = { args.iter() }.find(|arg| {
        let is_number = arg.parse::<f64>().is_ok();
        arg.starts_with('-') && !is_number && !options.contains(*arg)
    });
    match refused {
        Some(option) => Err(Refused::Option(program.to_owned(), (*option).to_owned())),
        None => Ok(()),
    }
}
