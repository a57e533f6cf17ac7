//! Expected beside seen, for people. Colour only repeats what the words say.

use std::fmt::Write;

use bulkhead::print::Look;

use crate::Flow;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// A table with its title.
pub fn render(title: &str, flows: &[Flow]) -> String {
    let colour = Look::of_stdout().colour;
    let paint = |code: &'static str| if colour { code } else { "" };
    let (bold, plain) = (paint(BOLD), paint(PLAIN));
    let mut text =
        format!("\n{bold}{title}{plain}\n\n  {:<8}    {:<8} {:>5}  {:<8}  seen\n", "from", "to", "port", "expected");
    for Flow { from, to, port, expected, seen, .. } in flows {
        let (mark, note) = if expected == seen { (paint(GREEN), "") } else { (paint(RED), "  <- not as expected") };
        writeln!(text, "  {from:<8} -> {to:<8} {port:>5}  {expected:<8}  {mark}{seen}{plain}{note}")
            .expect("a string takes everything");
    }
    text
}
