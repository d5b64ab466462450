use super::*;
use crate::document::{Chunk, Metadata, Passage};

fn passage(title: &str, text: &str, dense: f32) -> ScoredPassage {
    let chunk = Chunk {
        chunk_idx: 0,
        text: text.to_owned(),
        headings: vec![],
        page: None,
        start: 0,
        end: text.chars().count() as u64,
    };
    let passage = Passage {
        document_id: "d".parse().unwrap(),
        version: 1,
        title: title.to_owned(),
        metadata: Metadata::new(),
        chunk,
    };
    ScoredPassage { passage, score: dense, dense_score: Some(dense), rerank_score: None }
}

fn policy() -> Vec<ScoredPassage> {
    vec![
        passage(
            "Retention policy",
            "# Retention\n\nContracts are kept for six years. Invoices are kept for ten years.[3] Ask finance if unsure.",
            0.62,
        ),
        passage("Travel", "Invoices of hotels are handed in within a month. Trains are preferred.", 0.41),
    ]
}

#[test]
fn the_sentence_that_answers_is_quoted_and_cited() {
    assert_eq!(pieces("How long are invoices kept?", &policy()), ["Invoices are kept for ten years. [1]"]);
}

#[test]
fn several_sentences_come_in_reading_order() {
    let passages = [
        passage("", "Red paint dries in two hours. Mix paint well.", 0.6),
        passage("", "Blue paint dries in three hours.", 0.6),
    ];
    let answer = pieces("How long does paint take until it dries?", &passages).concat();
    assert_eq!(answer, "Red paint dries in two hours. [1] Blue paint dries in three hours. [2]");
}

#[test]
fn what_passages_do_not_say_is_not_found() {
    assert_eq!(pieces("Which whale sings the longest songs?", &policy()), [SENTINEL]);
    assert_eq!(pieces("How long are invoices kept?", &[]), [SENTINEL]);
    assert_eq!(pieces("How long are invoices kept?", &[passage("", "# Invoices kept long", 0.9)]), [SENTINEL]);
}

#[test]
fn chinese_is_answered_too() {
    let passages = [passage("保存期限", "合同保存六年。发票保存十年。", 0.6)];
    assert_eq!(pieces("发票保存多少年？", &passages), ["发票保存十年。 [1]"]);
}

#[test]
fn every_quote_keeps_its_citation() {
    use crate::answer::citation::Reader;
    for text in [
        "Paint dries in `two hours when the room is warm.",
        "Paint dries in `two. Hours` are many.",
        "```\npaint dries two hours",
        "~~~sh\npaint dries two hours\n~~~",
        "Paint dries in two hours【2】.",
        "Paint ``dries'' in two hours.",
        "Paint `a[2]` dries in two hours, it`s fine.",
        "Paint dries in [[2]2] two hours.",
        "NO_ANSWER_IN_SOURCES how paint dries: two hours.",
        &format!("```\npaint dries {}", "two hours ".repeat(100)),
    ] {
        let answer = pieces("How many hours does paint dry?", &[passage("", text, 0.9), passage("", "Nothing.", 0.1)]);
        let mut reader = Reader::new(2);
        for piece in &answer {
            reader.push(piece);
        }
        reader.finish();
        let sources: Vec<usize> = reader.citations().iter().map(|citation| citation.source).collect();
        assert_eq!(sources, vec![0; answer.len()], "{answer:?}");
    }
}

#[test]
fn overlapping_chunks_are_quoted_once() {
    let text = "Invoices are kept for ten years.";
    let passages = [passage("", text, 0.7), passage("", text, 0.6)];
    assert_eq!(pieces("How long are invoices kept?", &passages), ["Invoices are kept for ten years. [1]"]);
}

#[test]
fn a_text_without_an_end_is_cut() {
    let text = quoted(&"word ".repeat(500));
    assert!(text.chars().count() <= MAX_CHARACTERS + 2 && text.ends_with("word …"));
}

#[test]
fn answerability_needs_words_or_nearness() {
    let near = answerability("How long are invoices kept?", &policy());
    let far = answerability("Which whale sings the longest songs?", &policy());
    assert!(near > ANSWERABLE && far < ANSWERABLE, "{near} {far}");
    assert_eq!(answerability("x", &[]), 0.0);
}
