//! Chunks, counted with the real tokenizer of the default embedding model.

use std::collections::HashSet;

use rag_api::document::{Chunk, contextual_text};
use rag_api::embedding::TokenCounter;
use rag_api::ingest::chunk::{ChunkOptions, chunk};
use rag_api::ingest::extract::Extracted;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokenizers::Tokenizer;

use crate::support::models_dir;

const OPTIONS: ChunkOptions = ChunkOptions { max_tokens: 200, overlap: 40 };

#[derive(Debug)]
struct WordPiece(Tokenizer);

impl WordPiece {
    fn load() -> Self {
        let mut tokenizer = Tokenizer::from_file(models_dir().join("all-MiniLM-L6-v2/tokenizer.json")).unwrap();
        tokenizer.with_truncation(None).unwrap();
        tokenizer.with_padding(None);
        Self(tokenizer)
    }
}

impl TokenCounter for WordPiece {
    fn count(&self, text: &str) -> usize {
        self.0.encode_fast(text, false).unwrap().len()
    }
}

fn extracted(text: &str, markdown: bool) -> Extracted {
    Extracted { media_type: "text/plain".into(), title: None, text: text.into(), markdown, pages: Vec::new() }
}

/// What holds for every text: exact places, the limit, the order, and that nothing is left out.
fn check(extracted: &Extracted, title: &str, counter: &dyn TokenCounter, options: ChunkOptions) -> Vec<Chunk> {
    let chunks = chunk(extracted, title, counter, options);
    let characters = extracted.text.chars().collect::<Vec<_>>();
    let mut covered = vec![false; characters.len()];
    let mut previous = None;
    for (index, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk.chunk_idx as usize, index);
        let place = chunk.start as usize..chunk.end as usize;
        assert_eq!(chunk.text, characters[place.clone()].iter().collect::<String>(), "place of chunk {index}");
        assert!(!chunk.text.trim().is_empty(), "chunk {index} is white space");
        assert!(previous < Some((chunk.start, chunk.end)), "chunk {index} is out of order");
        previous = Some((chunk.start, chunk.end));
        let tokens = counter.count(&contextual_text(title, chunk));
        assert!(tokens <= options.max_tokens, "chunk {index} has {tokens} tokens: {:?}", chunk.text);
        covered[place].fill(true);
    }
    let missed = characters.iter().zip(&covered).position(|(c, covered)| !covered && !c.is_whitespace());
    assert_eq!(missed, None, "a character is in no chunk");
    chunks
}

#[test]
fn any_text_is_covered_within_the_limit() {
    let counter = WordPiece::load();
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let markdown = random.random_bool(0.7);
        let text = (0..random.random_range(1..120)).map(|_| block(&mut random)).collect::<String>();
        let mut document = extracted(&text, markdown);
        if random.random_bool(0.5) {
            let length = text.chars().count() as u64;
            document.pages = (0..random.random_range(1..9)).map(|_| random.random_range(0..=length)).collect();
            document.pages.push(0);
            document.pages.sort_unstable();
        }
        let max_tokens = random.random_range(24..260);
        let options = ChunkOptions { max_tokens, overlap: random.random_range(0..60) };
        check(&document, "A title", &counter, options);
    }
}

/// A piece of text of one of many kinds, with what ends it.
fn block(random: &mut StdRng) -> String {
    const WORDS: [&str; 16] = [
        "invoice", "ten", "years", "über", "naïve", "数据", "الخطوط", "עברית", "unbelievably", "x", "e\u{301}", "👩\u{200d}👧",
        "3.14", "कंप्यूटर", "[link](https://example.org/a?b=c)", "`code`",
    ];
    let words = |random: &mut StdRng, most: usize| {
        (0..random.random_range(1..most)).map(|_| WORDS[random.random_range(0..WORDS.len())]).collect::<Vec<_>>().join(" ")
    };
    match random.random_range(0..11) {
        0 => format!("{} {}\n\n", "#".repeat(random.random_range(1..7)), words(random, 8)),
        1 => format!("{}\n=====\n\n", words(random, 5)),
        2 => format!("```\n# {}\n\n{}\n```\n\n", words(random, 5), words(random, 60)),
        3 => format!("- {}\n  - {}\n1. {}\n", words(random, 20), words(random, 20), words(random, 9)),
        4 => format!("| a | b |\n| - | - |\n{}\n", format!("| {} | {} |\n", words(random, 9), words(random, 9)).repeat(9)),
        5 => "x".repeat(random.random_range(1..3_000)) + " ",
        6 => "这是没有空格的中文文本。".repeat(random.random_range(1..60)),
        7 => " \n\t\n \u{a0}\n".to_owned(),
        8 => format!("> {}\n> # {}\n\n", words(random, 40), words(random, 4)),
        9 => format!("<div>\n{}\n</div>\n\n", words(random, 50)),
        _ => format!("{}. {}? {}!\n\n", words(random, 60), words(random, 30), words(random, 90)),
    }
}

#[test]
fn chunks_follow_sections_and_know_their_headings() {
    let counter = WordPiece::load();
    let section = |name: &str| format!("## {name}\n\n{}\n\n", format!("A sentence about {name} and its rules. ").repeat(15));
    let text = format!("# Handbook\n\n{}{}{}", section("Leave"), section("Travel"), section("Invoices"));
    let chunks = check(&extracted(&text, true), "Handbook of May", &counter, OPTIONS);
    for name in ["Leave", "Travel", "Invoices"] {
        let first = chunks.iter().find(|chunk| chunk.text.contains(&format!("## {name}"))).unwrap();
        // Nothing of a neighbouring section is in it.
        assert!(["Leave", "Travel", "Invoices"].iter().all(|other| other == &name || !first.text.contains(other)));
    }
    let travel = chunks.iter().filter(|chunk| chunk.text.starts_with("## Travel")).collect::<Vec<_>>();
    assert_eq!(travel[0].headings, ["Handbook"]);
}

#[test]
fn later_chunks_of_a_section_carry_its_headings() {
    let counter = WordPiece::load();
    let text = format!("# Handbook\n\n## Leave\n\n{}", "Days are counted by month of service. ".repeat(120));
    let chunks = check(&extracted(&text, true), "T", &counter, OPTIONS);
    assert!(chunks.len() > 3);
    assert!(chunks[1..].iter().all(|chunk| chunk.headings == ["Handbook", "Leave"]));
    // A sentence is whole somewhere: chunks begin at one.
    assert!(chunks[1..].iter().all(|chunk| chunk.text.starts_with("Days")));
}

#[test]
fn neighbours_overlap_by_whole_sentences() {
    let counter = WordPiece::load();
    let text = (0..200).map(|n| format!("Sentence number {n} stands here. ")).collect::<String>();
    let chunks = check(&extracted(&text, false), "T", &counter, OPTIONS);
    for pair in chunks.windows(2) {
        let shared = pair[0].end.saturating_sub(pair[1].start) as usize;
        let overlap = pair[1].text.chars().take(shared).collect::<String>();
        let tokens = counter.count(&overlap);
        assert!((1..=OPTIONS.overlap).contains(&tokens), "{tokens}: {overlap}");
    }
    let without = chunk(&extracted(&text, false), "T", &counter, ChunkOptions { overlap: 0, ..OPTIONS });
    assert!(without.windows(2).all(|pair| pair[0].end <= pair[1].start));
}

#[test]
fn code_is_no_heading_and_stays_together_if_it_fits() {
    let counter = WordPiece::load();
    let code = "```sh\n# install\nmake install\n```";
    let filler = "Some words that fill the space before and after the code. ".repeat(12);
    let text = format!("# Guide\n\n{filler}\n\n{code}\n\n{filler}");
    let chunks = check(&extracted(&text, true), "T", &counter, OPTIONS);
    assert!(chunks.iter().any(|chunk| chunk.text.contains(code)));
    assert!(chunks.iter().all(|chunk| chunk.headings.iter().all(|heading| heading == "Guide")));
}

#[test]
fn tables_are_cut_between_rows() {
    let counter = WordPiece::load();
    let rows = (0..80).map(|n| format!("| item {n} | price {n} |\n")).collect::<String>();
    let text = format!("| item | price |\n| --- | --- |\n{rows}");
    let chunks = check(&extracted(&text, true), "Prices", &counter, ChunkOptions { overlap: 0, ..OPTIONS });
    assert!(chunks.len() > 2);
    assert!(chunks.iter().all(|chunk| chunk.text.starts_with('|') && chunk.text.ends_with('|')));
}

#[test]
fn chinese_is_cut_between_sentences() {
    let counter = WordPiece::load();
    let text = "发票应当保存十年。员工每月十五日之前提交报销单据。".repeat(200);
    let chunks = check(&extracted(&text, false), "制度", &counter, OPTIONS);
    assert!(chunks.len() > 20);
    assert!(chunks.iter().all(|chunk| chunk.text.ends_with('。')), "a sentence is cut");
    let most = chunks.iter().map(|chunk| counter.count(&chunk.text)).max().unwrap();
    assert!(most > 150, "chunks are too small: {most}");
}

#[test]
fn right_to_left_text_is_cut_between_words() {
    let counter = WordPiece::load();
    let text = "في قرية من القرى كان هناك رجل حكيم يعرف كل شيء عن الحياة. ".repeat(100);
    let words = text.split_whitespace().collect::<HashSet<_>>();
    for chunk in check(&extracted(&text, false), "قرية", &counter, OPTIONS) {
        assert!(chunk.text.split_whitespace().all(|word| words.contains(word)), "{}", chunk.text);
    }
}

#[test]
fn one_endless_word_is_cut() {
    let counter = WordPiece::load();
    let chunks = check(&extracted(&"a1b2".repeat(20_000), false), "T", &counter, OPTIONS);
    assert!(chunks.iter().all(|chunk| chunk.text.len() < 4_000), "a chunk is no chunk any more");
}

#[test]
fn long_titles_and_headings_leave_room_for_text() {
    let counter = WordPiece::load();
    let title = "a very long title that goes on ".repeat(10);
    let heading = "a heading with many words ".repeat(60);
    let text = format!("# {heading}\n\n## {heading}\n\n{}", "Body text of the section. ".repeat(60));
    let chunks = check(&extracted(&text, true), &title, &counter, OPTIONS);
    assert!(chunks.last().unwrap().headings.last().unwrap().ends_with('…'));
}

#[test]
fn pages_are_those_of_the_first_character() {
    let counter = WordPiece::load();
    let mut document = extracted("ünö\n\nzwei\n\ndrei", true);
    document.pages = vec![0, 5, 5, 11];
    let chunks = check(&document, "T", &counter, OPTIONS);
    let found = chunks.iter().map(|chunk| (chunk.text.as_str(), chunk.page)).collect::<Vec<_>>();
    // Page 2 is empty; slides are not joined.
    assert_eq!(found, [("ünö", Some(1)), ("zwei", Some(3)), ("drei", Some(4))]);
}

#[test]
fn nothing_comes_of_nothing() {
    let counter = WordPiece::load();
    for text in ["", " \n\t \u{a0}\n"] {
        assert_eq!(chunk(&extracted(text, true), "T", &counter, OPTIONS), []);
    }
}
