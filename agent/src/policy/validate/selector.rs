//! Selectors.

use super::names::{check_key, check_selected};
use super::{Context, check_labels};
use crate::policy::document::{Expression, Field, LabelSelector, Operator};
use crate::policy::yaml::Mark;
use crate::workload::{Requirement, Selector};

/// The selector of a group whose spec stands at `spec`.
pub(super) fn selector(field: &Field<LabelSelector>, spec: Mark, context: Context<'_>) -> Option<Selector> {
    let selector = match field {
        Field::Absent => {
            let cure = "add `selector: {matchLabels: {KEY: VALUE}}`, or `selector: {}` for every workload";
            context.report.add(spec, "this SecurityGroup has no `selector`", cure);
            return None;
        }
        Field::Refused(_) => return None,
        Field::Is(_, selector) => selector,
    };
    Some(Selector { requirements: requirements(selector, context) })
}

/// What a selector requires.
pub(super) fn requirements(selector: &LabelSelector, context: Context<'_>) -> Vec<Requirement> {
    check_labels(&selector.match_labels, context.report, check_selected);
    let labels = selector.match_labels.get().map(|texts| texts.0.as_slice()).unwrap_or_default();
    let labels =
        labels.iter().filter_map(|(key, value)| Some(Requirement::In(key.get()?.clone(), vec![value.get()?.clone()])));
    let expressions = selector.match_expressions.get().map(Vec::as_slice).unwrap_or_default();
    let expressions = expressions
        .iter()
        .filter_map(|entry| entry.marked())
        .filter_map(|(mark, expression)| requirement(mark, expression, context));
    labels.chain(expressions).collect()
}

fn requirement(mark: Mark, expression: &Expression, context: Context<'_>) -> Option<Requirement> {
    let report = context.report;
    match &expression.key {
        Field::Absent => report.add(mark, "this expression has no `key`", "add the label that it is about"),
        Field::Refused(_) => {}
        Field::Is(mark, key) => {
            if let Err((message, cure)) = check_key(key) {
                report.add(*mark, message, cure);
            }
        }
    }
    if expression.operator.is_absent() {
        report.add(mark, "this expression has no `operator`", "add `In`, `NotIn`, `Exists` or `DoesNotExist`");
    }
    let mut values = Vec::new();
    for (mark, value) in expression.values.get().into_iter().flatten().filter_map(|value| value.marked()) {
        if let Err((message, cure)) = check_selected(value) {
            report.add(mark, message, cure);
        }
        values.push(value.clone());
    }
    let operator = *expression.operator.get()?;
    let none = expression.values.get().is_none_or(Vec::is_empty) && !matches!(expression.values, Field::Refused(_));
    let place = expression.values.mark().unwrap_or(mark);
    match operator {
        Operator::In | Operator::NotIn if none => {
            let cure = "add `values` with at least one, or ask `Exists` or `DoesNotExist`";
            report.add(place, format!("`{operator:?}` needs values"), cure);
        }
        Operator::Exists | Operator::DoesNotExist if !none => {
            report.add(place, format!("`{operator:?}` takes no values"), "remove `values`, or ask `In` or `NotIn`");
        }
        _ => {}
    }
    let key = expression.key.get()?.clone();
    Some(match operator {
        Operator::In => Requirement::In(key, values),
        Operator::NotIn => Requirement::NotIn(key, values),
        Operator::Exists => Requirement::Exists(key),
        Operator::DoesNotExist => Requirement::DoesNotExist(key),
    })
}
