//! The report for a continuous integration: one case a judged limit.

use super::Report;
use crate::junit::{Case, Outcome, Suite};
use crate::words::count;
use crate::{Criterion, Outcome as Came};

pub(super) fn suite(report: &Report) -> Suite {
    let judgement = &report.judgement;
    let mut cases: Vec<Case> =
        judgement.criteria.iter().map(|criterion| case(report, criterion)).collect();
    if cases.is_empty() {
        cases.push(Case {
            class: report.title.clone(),
            name: "limits".to_owned(),
            seconds: None,
            outcome: Outcome::Skipped("nothing was asked of these runs".to_owned()),
            said: judgement.caveat.to_owned(),
        });
    }
    cases.extend(report.control.as_ref().map(|control| {
        let (xruns, periods) = (count(control.xruns, "xrun"), count(control.periods, "period"));
        let found = format!("{}: {xruns} in {periods}", control.title);
        let outcome = match control.held {
            true => Outcome::Passed,
            false => Outcome::Failed(format!("{}; {found}", report.headline())),
        };
        Case {
            class: report.title.clone(),
            name: "control".to_owned(),
            seconds: None,
            outcome,
            said: found,
        }
    }));
    Suite { name: format!("{} ({})", report.title, judgement.source.word()), cases }
}

fn case(report: &Report, criterion: &Criterion) -> Case {
    let bound = criterion.bound.as_ref().map_or(String::new(), |bound| format!("; {bound}"));
    let found = format!("{}{bound}", criterion.found);
    let word = criterion.outcome.word();
    let more = criterion.more.map_or(String::new(), |more| format!("; it takes {}", more.words()));
    let outcome = match criterion.outcome {
        Came::Held => Outcome::Passed,
        Came::Broken => Outcome::Failed(format!("{word}: {found}")),
        // A gate that opens for want of evidence is none.
        Came::NotEnoughSamples => Outcome::Failed(format!("{word}: {found}{more}")),
        Came::NotJudged => Outcome::Skipped(word.to_owned()),
    };
    let judgement = &report.judgement;
    let mut said = format!("{found}\n{}", judgement.caveat);
    for note in &judgement.notes {
        said.push('\n');
        said.push_str(note);
    }
    Case {
        class: report.title.clone(),
        name: criterion.title.clone(),
        seconds: Some(judgement.seconds),
        outcome,
        said,
    }
}
