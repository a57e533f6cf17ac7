//! Whatever stands in a file, reading it ends: with a policy or with problems that point into the file.

use std::fs;

use super::repository::examples;
use super::*;

/// xorshift64* (Vigna, 2016): the same seed gives the same texts.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

const PIECES: [&str; 40] = [
    ":",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "\n",
    "\n  ",
    "  ",
    "\t",
    "#",
    "&a ",
    "*a",
    "!",
    "!!str ",
    "|\n",
    ">-\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "~",
    "null",
    "0",
    "-1",
    "65536",
    "1e9",
    "0x10",
    "true",
    "::/0",
    "10.0.0.1/8",
    "? ",
    "<<: ",
    ",",
    "\u{feff}",
    "\u{0}",
    "ä",
    "\r\n",
    "99999999999999999999999999999999999999999",
];

fn mutate(text: &str, random: &mut Random) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(3) {
        let at = random.below(letters.len() + 1);
        let end = (at + random.below(12)).min(letters.len());
        match random.below(5) {
            0 => drop(letters.drain(at..end)),
            1 => {
                let piece: Vec<char> = PIECES[random.below(PIECES.len())].chars().collect();
                letters.splice(at..at, piece);
            }
            2 => {
                let piece: Vec<char> = PIECES[random.below(PIECES.len())].chars().collect();
                letters.splice(at..end, piece);
            }
            3 => {
                let to = random.below(letters.len() + 1);
                let copy: Vec<char> = letters[at..end].to_vec();
                letters.splice(to..to, copy);
            }
            _ => letters.truncate(at.max(1)),
        }
    }
    letters.into_iter().collect()
}

#[test]
fn no_text_makes_the_reader_panic_and_every_problem_points_into_it() {
    let examples: Vec<String> = examples().iter().map(|path| fs::read_to_string(path).expect("an example")).collect();
    let mut random = Random(0x5eed);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..4_000 {
        let example = &examples[random.below(examples.len())];
        // A whole file, or one document of it, where mutations meet in one place.
        let parts: Vec<&str> = [example.as_str()].into_iter().cycle().take(6).chain(example.split("---\n")).collect();
        let text = mutate(parts[random.below(parts.len())], &mut random);
        let result = std::panic::catch_unwind(|| validate(&[file("test.yaml", &text)]));
        let lines = text.split('\n').count();
        match result.unwrap_or_else(|_| panic!("panics at {text:?}")) {
            Ok(policy) => {
                taken += 1;
                drop(crate::policy::warnings::warnings(&policy));
            }
            Err(problems) => {
                refused += 1;
                for problem in problems {
                    let origin = problem.origin.as_ref().expect("in the file");
                    assert!((1..=lines + 1).contains(&origin.line) && origin.column >= 1, "{problem} in {text:?}");
                    assert!(!problem.message.is_empty() && !problem.cure.is_empty());
                }
            }
        }
    }
    assert!(taken > 100 && refused > 1_000, "{taken} taken, {refused} refused");
}
