//! What a scalar means: YAML's core schema (YAML 1.2.2, section 10.3.2), as serde_yaml reads it.

/// What a node holds. The text of a scalar is its node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    /// A number that is not whole, or too large.
    Float,
    Text,
    List,
    Map,
}

impl Value {
    /// The value of a scalar without quotes.
    pub(super) fn of_plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "true" | "True" | "TRUE" => Self::Bool(true),
            "false" | "False" | "FALSE" => Self::Bool(false),
            _ if text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) => number(text),
            _ => Self::Text,
        }
    }
}

fn number(text: &str) -> Value {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // Octal to some readers, decimal to others: a text.
    if unsigned.len() > 1 && unsigned.starts_with('0') && is_digits(unsigned) {
        return Value::Text;
    }
    if let Some(number) = integer(unsigned) {
        return Value::Integer(if text.starts_with('-') { -number } else { number });
    }
    let is_special = match unsigned {
        ".inf" | ".Inf" | ".INF" => true,
        ".nan" | ".NaN" | ".NAN" => unsigned.len() == text.len(),
        _ => false,
    };
    let is_number = || !unsigned.starts_with(['+', '-']) && unsigned.parse().is_ok_and(f64::is_finite);
    if is_special || is_number() { Value::Float } else { Value::Text }
}

fn integer(unsigned: &str) -> Option<i128> {
    let (digits, radix) = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((unsigned.strip_prefix(prefix)?, radix)))
        .unwrap_or((unsigned, 10));
    // The library would take another sign.
    if digits.starts_with(['+', '-']) { None } else { i128::from_str_radix(digits, radix).ok() }
}
