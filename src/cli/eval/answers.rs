//! `rag-api eval answers`.

use std::collections::HashMap;

use clap::Args;
use rag_api::document::Passage;
use rag_api::error::{Error, Result};
use rag_api::eval::answers::{Respondent, Worth, worth};
use rag_api::eval::collection::Query;
use rag_api::eval::originals::Originals;
use rag_api::eval::ranking::Variant;
use rag_api::eval::spans::Place;
use rag_api::eval::{Collection, Index};

use super::report::{Row, Values, width};
use super::{Bench, Common, each};

#[derive(Debug, Args)]
pub(crate) struct AnswersArgs {
    #[command(flatten)]
    pub(super) common: Common,
}

/// A collection, and where what is relevant is, if it says so.
pub(super) struct Judged {
    collection: Collection,
    spans: Option<HashMap<String, Vec<Place>>>,
}

pub(super) fn read(arguments: &AnswersArgs) -> Result<Vec<Judged>> {
    let Common { folders, queries, seed, .. } = &arguments.common;
    let read = |folder: &std::path::PathBuf| {
        let mut judged = match Originals::are_in(folder) {
            true => {
                let Originals { collection, relevant, .. } = Originals::read(folder)?;
                Judged { collection, spans: Some(relevant) }
            }
            false => Judged { collection: Collection::read(folder)?, spans: None },
        };
        let collection = &judged.collection;
        let has_answers = collection.queries.iter().any(|query| !query.answers.is_empty());
        if !has_answers && collection.unanswerable.is_empty() && judged.spans.is_none() {
            return Err(Error::config(format!(
                "{}: no question has `answers`, and there is no unanswerable.jsonl and no spans.jsonl",
                folder.join("queries.jsonl").display()
            )));
        }
        judged.collection.sample(queries.unwrap_or(usize::MAX), *seed);
        Ok(judged)
    };
    folders.iter().map(read).collect()
}

pub(super) async fn measure(bench: &mut Bench, collections: &[Judged]) -> Result<()> {
    let names = ["answered", "refused", "f1", "word recall", "contains", "quoted", "cites right"];
    let metrics = names.map(str::to_owned);
    let mut variants = Variant::reranked(&bench.config.retrieve, &bench.models);
    if variants.is_empty() {
        let all = Variant::all(&bench.config.retrieve, &bench.plain, &bench.models);
        variants.extend(all.into_iter().filter(|variant| variant.name == "hybrid"));
    }
    let width = width(variants.iter().map(|variant| &variant.name));
    for judged in collections {
        let Collection { name, documents, queries, unanswerable, .. } = &judged.collection;
        let index = bench.index(name, documents, bench.cutting()).await?;
        bench.report.begin(name, documents.len(), index.chunks(), queries.len() + unanswerable.len())?;
        for variant in &variants {
            let (llm, config) = (&bench.config.llm, bench.config.answer.clone());
            let respondent = Respondent::new(&bench.models, &index, variant, llm, config)?;
            let asked = queries.iter().map(|query| (query, true));
            let asked: Vec<_> = asked.chain(unanswerable.iter().map(|query| (query, false))).collect();
            let work = asked.iter().map(|(query, answerable)| ask(&respondent, &index, judged, query, *answerable));
            let values = each(format!("{name}: {}", variant.name), work.collect()).await?;
            bench.report.note(&variant.name, &metrics, asked.iter().map(|(query, _)| &*query.id).zip(&values));
            bench.report.add(Row::mean(&variant.name, &metrics, &values), width)?;
        }
    }
    Ok(())
}

async fn ask(
    respondent: &Respondent<'_>,
    index: &Index,
    judged: &Judged,
    query: &Query,
    is_answerable: bool,
) -> Result<Values> {
    let answer = respondent.answer(query).await?;
    if !is_answerable {
        let refused = f64::from(u8::from(!answer.answerable));
        return Ok(vec![None, Some(refused), None, None, None, None, None]);
    }
    let Worth { answered, f1, recall, contains, quoted, relevant } =
        worth(&answer, &query.answers, |passage| is_relevant(index, judged, query, passage));
    Ok(vec![Some(answered), None, f1, recall, contains, quoted, relevant])
}

/// Whether a passage overlaps a relevant stretch; without those, whether its document is relevant.
fn is_relevant(index: &Index, judged: &Judged, query: &Query, passage: &Passage) -> bool {
    let Some(place) = index.place(passage) else { return false };
    if let Some(spans) = &judged.spans {
        return spans.get(&query.id).into_iter().flatten().any(|span| span.overlaps(place));
    }
    let document = &judged.collection.documents[place.document].id;
    judged.collection.judgements.get(&query.id).and_then(|of| of.get(document)).is_some_and(|grade| *grade > 0)
}
