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

/// What a scalar is that begins as numbers do. Nearly all of them are ports and addresses, and need no reader of numbers.
fn number(text: &str) -> Value {
    let is_decimal = text == "0" || !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_decimal && let Ok(number) = text.parse() {
        return Value::Integer(number);
    }
    if text.contains(['/', ':']) || text.matches('.').count() > 1 {
        return Value::Text;
    }
    if let Ok(number) = serde_yaml::from_str(text) {
        return Value::Integer(number);
    }
    match serde_yaml::from_str(text) {
        Ok(serde_yaml::Value::Number(_)) => Value::Float,
        _ => Value::Text,
    }
}
