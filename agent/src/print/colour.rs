//! Whether there are colours: as the command line says, or as standard output and the environment do.

use std::env;
use std::sync::OnceLock;

use clap::ColorChoice;

/// What the command line says; [`ColorChoice::Auto`] without one.
static CHOICE: OnceLock<ColorChoice> = OnceLock::new();

/// Takes the command line's word, once.
pub fn choose(choice: ColorChoice) {
    let _ = CHOICE.set(choice);
}

/// Whether colours show on an output that is a terminal or is not.
pub(super) fn shows(is_terminal: bool) -> bool {
    // https://no-color.org
    let is_refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    decide(CHOICE.get().copied().unwrap_or_default(), is_terminal, is_refused)
}

fn decide(choice: ColorChoice, is_terminal: bool, is_refused: bool) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => is_terminal && !is_refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_terminal() {
        for (choice, is_terminal, is_refused, expected) in [
            (ColorChoice::Auto, true, false, true),
            (ColorChoice::Auto, false, false, false),
            (ColorChoice::Auto, true, true, false),
            (ColorChoice::Always, false, true, true),
            (ColorChoice::Never, true, false, false),
        ] {
            assert_eq!(decide(choice, is_terminal, is_refused), expected, "{choice} {is_terminal} {is_refused}");
        }
    }
}
