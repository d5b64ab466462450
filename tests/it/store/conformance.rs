//! What every vector store must do, whatever its backend. Each case takes an empty store for 8-dimensional vectors.

use std::collections::HashMap;

use rag_api::document::{Chunk, DocumentId, Metadata, Passage, Principal, Scope, TenantId, Version};
use rag_api::retrieve::filter::Filter;
use rag_api::vector_store::bm25::Bm25;
use rag_api::vector_store::{
    ChunkPage, DocumentAttributes, Found, Hit, Point, SearchQuery, SearchResults, VectorStore, Versions,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use uuid::Uuid;

/// Length of the vectors of these cases.
pub(crate) const DIMENSIONS: usize = 8;

/// Makes a test of every case; `$open` gives a guard with a field `store`.
macro_rules! conformance {
    ($open:path) => {
        conformance! { $open:
            a_point_is_found_with_all_it_holds
            a_scope_without_principals_sees_nothing
            a_tenant_sees_only_its_own
            any_principal_of_a_document_opens_it
            empty_lists_match_nothing
            a_filter_that_matches_nothing_finds_nothing
            excluded_contents_are_left_out
            ties_are_broken_by_id
            the_sparse_branch_finds_only_shared_terms
            a_branch_that_is_not_asked_is_empty
            writing_again_is_the_same_point
            other_scripts_and_odd_names_come_through
            deleting_takes_one_document_only
            deleting_but_one_version_keeps_that_version
            attributes_change_for_one_version
            chunks_come_in_pages
            points_come_back_with_their_vectors
            a_foreign_tenant_changes_no_score
            filters_agree_with_their_definition
            a_reader_sees_the_old_or_the_new_version
            concurrent_flushes_all_return
            ten_thousand_points_stay_exact_and_scoped
            writes_go_on_while_it_optimizes
        }
    };
    ($open:path: $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let opened = $open().await;
                conformance::$case(&opened.store).await;
            }
        )*
    };
}
pub(crate) use conformance;

type Store = std::sync::Arc<dyn VectorStore>;

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn document(name: &str) -> DocumentId {
    name.parse().unwrap()
}

fn reader(name: &str) -> Principal {
    Principal::user(name).unwrap()
}

fn scope(tenant_name: &str, principals: &[&str]) -> Scope {
    Scope::new(tenant(tenant_name), principals.iter().map(|name| name.parse().unwrap()).collect())
}

/// The scope that most cases search in.
fn ada() -> Scope {
    scope("acme", &["user:ada"])
}

/// A unit vector, always the same for a seed.
pub(crate) fn vector(seed: u64) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed);
    let vector: Vec<f32> = (0..DIMENSIONS).map(|_| random.random_range(-1.0..1.0)).collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

pub(crate) fn metadata(value: Value) -> Metadata {
    value.as_object().unwrap().clone()
}

/// A point that Ada of tenant acme may read.
pub(crate) fn point(document_name: &str, version: Version, chunk_idx: u32, text: &str) -> Point {
    let chunk = Chunk {
        chunk_idx,
        text: text.to_owned(),
        headings: vec!["Part".to_owned()],
        page: (chunk_idx % 2 == 0).then_some(chunk_idx + 1),
        start: u64::from(chunk_idx) * 100,
        end: u64::from(chunk_idx) * 100 + text.chars().count() as u64,
    };
    let passage = Passage {
        document_id: document(document_name),
        version,
        title: format!("Title of {document_name}"),
        metadata: Metadata::new(),
        chunk,
    };
    Point {
        tenant: tenant("acme"),
        principals: vec![reader("ada")],
        sparse: Bm25::new().unwrap().document(text),
        dense: vector(
            u64::from(chunk_idx) + version * 1_000 + document_name.bytes().map(u64::from).sum::<u64>() * 7_919,
        ),
        passage,
    }
}

fn ask(dense: Option<Vec<f32>>, question: Option<&str>) -> SearchQuery {
    let sparse = question.map(|question| Bm25::new().unwrap().query(question));
    SearchQuery { dense, sparse, limit: 100, ..SearchQuery::default() }
}

fn filtered(filter: Value) -> SearchQuery {
    SearchQuery { filter: Some(Filter::parse(&filter).unwrap()), ..ask(Some(vector(1)), None) }
}

/// A hit with all that is stored of it.
#[derive(Debug, Clone, PartialEq)]
struct Shown {
    id: Uuid,
    score: f32,
    cosine: Option<f32>,
    passage: Passage,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Results {
    dense: Vec<Shown>,
    sparse: Vec<Shown>,
    /// Hits that were gone when they were read: a retriever would search again.
    gone: usize,
}

/// Searches, and reads every hit.
async fn search(store: &Store, scope: &Scope, query: SearchQuery) -> Results {
    let question = query.dense.clone();
    let SearchResults { dense, sparse, best_terms } = store.search(scope, query).await.unwrap();
    let show = async |hits: Vec<Hit>| {
        let ids: Vec<Uuid> = hits.iter().map(|hit| hit.id).collect();
        let found = store.passages(scope, &ids, question.as_deref()).await.unwrap();
        let found: HashMap<Uuid, Found> = found.into_iter().map(|found| (found.id, found)).collect();
        let shown = |Hit { id, score }: Hit| {
            let Found { cosine, passage, .. } = found.get(&id)?.clone();
            Some(Shown { id, score, cosine, passage })
        };
        hits.into_iter().filter_map(shown).collect()
    };
    let hits = dense.len() + sparse.len();
    let (dense, sparse): (Vec<_>, Vec<_>) = (show(dense).await, show(sparse).await);
    let gone = hits - dense.len() - sparse.len();
    let has_terms = !best_terms.indices.is_empty();
    assert!(gone > 0 || has_terms != sparse.is_empty(), "the terms of the best hit, where there is one");
    Results { dense, sparse, gone }
}

fn names(hits: &[Shown]) -> Vec<String> {
    let mut names: Vec<_> = hits.iter().map(|hit| hit.passage.chunk_id()).collect();
    names.sort();
    names
}

async fn found(store: &Store, scope: &Scope, query: SearchQuery) -> Vec<String> {
    names(&search(store, scope, query).await.dense)
}

pub(crate) async fn a_point_is_found_with_all_it_holds(store: &Store) {
    let mut written = point("contract", 3, 2, "Invoices are kept for ten years.");
    written.passage.metadata =
        metadata(json!({"year": 2023, "tags": ["tax", "audit"], "nested": {"deep": [1.5, null, true]}}));
    store.upsert(vec![written.clone(), point("other", 1, 0, "Nothing to do with it.")]).await.unwrap();

    let results = search(store, &ada(), ask(Some(written.dense.clone()), Some("invoice"))).await;
    assert_eq!(results.dense.len(), 2);
    assert_eq!(results.dense[0].id, written.id());
    assert_eq!(results.dense[0].passage, written.passage);
    assert!((results.dense[0].score - 1.0).abs() < 1e-5);
    assert_eq!(results.sparse.len(), 1);
    assert_eq!(results.sparse[0].passage, written.passage);
    assert!(results.sparse[0].cosine.is_none_or(|cosine| (cosine - 1.0).abs() < 1e-5));
    store.check().await.unwrap();
}

pub(crate) async fn a_scope_without_principals_sees_nothing(store: &Store) {
    let mut nobody = point("orphan", 1, 0, "invoice");
    nobody.principals.clear();
    store.upsert(vec![point("a", 1, 0, "invoice"), nobody]).await.unwrap();
    let results = search(store, &scope("acme", &[]), ask(Some(vector(1)), Some("invoice"))).await;
    assert_eq!(results, Results::default());
    assert_eq!(found(store, &ada(), ask(Some(vector(1)), None)).await, ["a_0"], "what has no reader has no reader");
}

pub(crate) async fn a_tenant_sees_only_its_own(store: &Store) {
    let mut foreign = point("theirs", 1, 0, "invoice");
    foreign.tenant = tenant("globex");
    store.upsert(vec![point("ours", 1, 0, "invoice"), foreign]).await.unwrap();
    let results = search(store, &ada(), ask(Some(vector(1)), Some("invoice"))).await;
    assert_eq!(names(&results.dense), ["ours_0"]);
    assert_eq!(names(&results.sparse), ["ours_0"]);
    assert_eq!(found(store, &scope("globex", &["user:ada"]), ask(Some(vector(1)), None)).await, ["theirs_0"]);
    assert!(found(store, &scope("nobody", &["user:ada"]), ask(Some(vector(1)), None)).await.is_empty());
    // A user's own alternatives do not widen what the scope allows.
    let either = json!({"$or": [{"year": {"$exists": false}}, {"tenant": "globex"}]});
    assert_eq!(found(store, &ada(), filtered(either)).await, ["ours_0"]);
}

pub(crate) async fn any_principal_of_a_document_opens_it(store: &Store) {
    let mut shared = point("shared", 1, 0, "invoice");
    shared.principals = vec![reader("bob"), "group:finance".parse().unwrap()];
    let mut public = point("public", 1, 0, "invoice");
    public.principals = vec![Principal::public()];
    store.upsert(vec![shared, public, point("private", 1, 0, "invoice")]).await.unwrap();
    let cases: [(&[&str], &[&str]); 4] = [
        (&["user:bob", "public"], &["public_0", "shared_0"]),
        (&["group:finance"], &["shared_0"]),
        (&["user:eve", "group:fin"], &[]),
        (&["user:ada", "group:finance", "public"], &["private_0", "public_0", "shared_0"]),
    ];
    for (principals, expected) in cases {
        let results = search(store, &scope("acme", principals), ask(Some(vector(1)), Some("invoice"))).await;
        assert_eq!(names(&results.dense), expected, "{principals:?}");
        assert_eq!(names(&results.sparse), expected, "{principals:?}");
    }
}

pub(crate) async fn empty_lists_match_nothing(store: &Store) {
    store.upsert(vec![point("a", 1, 0, "invoice")]).await.unwrap();
    for nothing in [json!({"$or": []}), json!({"f": {"$in": []}}), json!({"$and": [{"$or": []}]}), json!({"$not": {}})]
    {
        assert!(found(store, &ada(), filtered(nothing.clone())).await.is_empty(), "{nothing}");
    }
    for everything in [json!({}), json!({"$and": []}), json!({"f": {"$nin": []}}), json!({"$not": {"$or": []}})] {
        assert_eq!(found(store, &ada(), filtered(everything.clone())).await, ["a_0"], "{everything}");
    }
}

pub(crate) async fn a_filter_that_matches_nothing_finds_nothing(store: &Store) {
    assert_eq!(search(store, &ada(), ask(Some(vector(1)), Some("invoice"))).await, Results::default());
    store.upsert(vec![point("a", 1, 0, "invoice")]).await.unwrap();
    let query = SearchQuery { sparse: ask(None, Some("invoice")).sparse, ..filtered(json!({"year": 1})) };
    assert_eq!(search(store, &ada(), query).await, Results::default());
    let none = SearchQuery { limit: 0, ..ask(Some(vector(1)), Some("invoice")) };
    assert_eq!(search(store, &ada(), none).await, Results::default());
}

pub(crate) async fn excluded_contents_are_left_out(store: &Store) {
    let points = [("a", 1), ("a", 2), ("b", 1), ("b", 2)];
    store.upsert(points.iter().map(|(name, version)| point(name, *version, 0, "invoice")).collect()).await.unwrap();
    let exclude = vec![(document("a"), 1), (document("b"), 2), (document("c"), 9)];
    let query = SearchQuery { exclude, ..ask(Some(vector(1)), Some("invoice")) };
    let results = search(store, &ada(), query).await;
    for hits in [&results.dense, &results.sparse] {
        let mut contents: Vec<_> =
            hits.iter().map(|hit| (hit.passage.document_id.as_str(), hit.passage.version)).collect();
        contents.sort_unstable();
        assert_eq!(contents, [("a", 2), ("b", 1)]);
    }
}

pub(crate) async fn ties_are_broken_by_id(store: &Store) {
    let mut points: Vec<_> = (0..200).map(|i| point("same", 1, i, "the very same invoice")).collect();
    points.iter_mut().for_each(|point| point.dense = vector(5));
    let mut ids: Vec<_> = points.iter().map(Point::id).collect();
    ids.sort();
    store.upsert(points).await.unwrap();
    let query = SearchQuery { limit: 10, ..ask(Some(vector(6)), Some("invoice")) };
    let results = search(store, &ada(), query).await;
    for hits in [&results.dense, &results.sparse] {
        assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), ids[..10]);
    }
}

pub(crate) async fn the_sparse_branch_finds_only_shared_terms(store: &Store) {
    let texts =
        ["Invoices are kept for ten years.", "The invoice, the invoice and the invoice.", "Holidays are in August."];
    store.upsert((0..).zip(texts).map(|(i, text)| point("d", 1, i, text)).collect()).await.unwrap();
    let results = search(store, &ada(), ask(None, Some("Which invoice?"))).await;
    assert_eq!(results.sparse.iter().map(|hit| hit.passage.chunk.chunk_idx).collect::<Vec<_>>(), [1, 0]);
    assert!(results.sparse.iter().all(|hit| hit.score > 0.0));
    let stop_words = search(store, &ada(), ask(None, Some("what is the"))).await;
    assert_eq!(stop_words, Results::default());
    // A document without a single term can be written, and found by its embedding.
    store.upsert(vec![point("empty", 1, 0, "…")]).await.unwrap();
    assert!(found(store, &ada(), ask(Some(vector(1)), None)).await.contains(&"empty_0".to_owned()));
}

pub(crate) async fn a_branch_that_is_not_asked_is_empty(store: &Store) {
    store.upsert(vec![point("a", 1, 0, "invoice")]).await.unwrap();
    let dense = search(store, &ada(), ask(Some(vector(1)), None)).await;
    assert_eq!((dense.dense.len(), dense.sparse.len()), (1, 0));
    let sparse = search(store, &ada(), ask(None, Some("invoice"))).await;
    assert_eq!((sparse.dense.len(), sparse.sparse.len()), (0, 1));
    assert_eq!(search(store, &ada(), ask(None, None)).await, Results::default());
}

pub(crate) async fn writing_again_is_the_same_point(store: &Store) {
    for _ in 0..3 {
        store.upsert(vec![point("a", 1, 0, "invoice"), point("a", 1, 1, "receipt")]).await.unwrap();
        store.flush().await.unwrap();
        store.delete(&tenant("acme"), &document("gone"), Versions::All).await.unwrap();
    }
    store.upsert(Vec::new()).await.unwrap();
    assert_eq!(found(store, &ada(), ask(Some(vector(1)), None)).await, ["a_0", "a_1"]);
}

pub(crate) async fn other_scripts_and_odd_names_come_through(store: &Store) {
    let mut odd = point("a@b.c+d:e", 1, 0, "发票必须保留十年。 العربية 🧾\u{0}\n");
    odd.passage.title = "\"Ti\\tle\" — עברית".to_owned();
    odd.passage.metadata = metadata(json!({
        "a b": "x y", "dotted.name": "v", "a[0]": "bracket", "年": "二〇二三", "it's": "o'clock", "say \"hi\"": "quoted",
        "$price": 5, "": "empty", "deep": {"x.y": {"z": "found"}},
    }));
    store.upsert(vec![odd.clone(), point("plain", 1, 0, "plain")]).await.unwrap();
    let results = search(store, &ada(), ask(Some(odd.dense.clone()), Some("发票要保留多久"))).await;
    assert_eq!(results.dense[0].passage, odd.passage);
    assert_eq!(names(&results.sparse), ["a@b.c+d:e_0"]);
    for filter in [
        json!({"a b": "x y"}),
        json!({"\"dotted.name\"": "v"}),
        json!({"a[0]": "bracket"}),
        json!({"年": "二〇二三"}),
        json!({"it's": "o'clock"}),
        json!({"\"$price\"": 5}),
        json!({"deep.\"x.y\".z": "found"}),
    ] {
        assert_eq!(found(store, &ada(), filtered(filter.clone())).await, ["a@b.c+d:e_0"], "{filter}");
    }
    assert!(found(store, &ada(), filtered(json!({"dotted.name": "v"}))).await.is_empty());
}

pub(crate) async fn deleting_takes_one_document_only(store: &Store) {
    let mut foreign = point("a", 1, 0, "invoice");
    foreign.tenant = tenant("globex");
    store.upsert(vec![point("a", 1, 0, "x"), point("a", 2, 1, "y"), point("ab", 1, 0, "z"), foreign]).await.unwrap();
    store.delete(&tenant("acme"), &document("a"), Versions::All).await.unwrap();
    assert_eq!(found(store, &ada(), ask(Some(vector(1)), None)).await, ["ab_0"]);
    assert_eq!(found(store, &scope("globex", &["user:ada"]), ask(Some(vector(1)), None)).await, ["a_0"]);
    assert!(
        store.chunks(&tenant("acme"), &document("a"), 1, ChunkPage { from: 0, limit: 9 }).await.unwrap().is_empty()
    );
}

pub(crate) async fn deleting_but_one_version_keeps_that_version(store: &Store) {
    let points = (1..=4).flat_map(|version| [point("a", version, 0, "x"), point("a", version, 1, "y")]);
    store.upsert(points.chain([point("b", 1, 0, "z")]).collect()).await.unwrap();
    for _ in 0..2 {
        store.delete(&tenant("acme"), &document("a"), Versions::Except(3)).await.unwrap();
        let results = search(store, &ada(), ask(Some(vector(1)), None)).await;
        assert_eq!(names(&results.dense), ["a_0", "a_1", "b_0"]);
        let of_a = results.dense.iter().filter(|hit| hit.passage.document_id == document("a"));
        assert!(of_a.into_iter().all(|hit| hit.passage.version == 3));
    }
    store.delete(&tenant("acme"), &document("a"), Versions::Except(9)).await.unwrap();
    assert_eq!(found(store, &ada(), ask(Some(vector(1)), None)).await, ["b_0"]);
}

pub(crate) async fn attributes_change_for_one_version(store: &Store) {
    let mut points: Vec<_> = (0..3).map(|i| point("a", 1, i, "invoice")).collect();
    points.push(point("a", 2, 0, "invoice"));
    points.push(point("b", 1, 0, "invoice"));
    for point in &mut points {
        point.passage.metadata = metadata(json!({"old": 1, "year": 2020}));
    }
    store.upsert(points).await.unwrap();
    let attributes = DocumentAttributes {
        principals: vec![reader("bob")],
        title: "New".to_owned(),
        metadata: metadata(json!({"year": 2024.0})),
    };
    for _ in 0..2 {
        store.set_attributes(&tenant("acme"), &document("a"), 1, &attributes).await.unwrap();
    }
    store.set_attributes(&tenant("acme"), &document("missing"), 1, &attributes).await.unwrap();
    let bob = scope("acme", &["user:bob"]);
    let results = search(store, &bob, ask(Some(vector(1)), Some("invoice"))).await;
    assert_eq!(names(&results.sparse), ["a_0", "a_1", "a_2"]);
    assert!(results.dense.iter().all(|hit| hit.passage.title == "New" && hit.passage.version == 1));
    assert_eq!(found(store, &bob, filtered(json!({"year": 2024}))).await.len(), 3);
    assert!(found(store, &bob, filtered(json!({"old": 1}))).await.is_empty(), "metadata is replaced, not merged");
    assert_eq!(found(store, &ada(), filtered(json!({"old": 1}))).await, ["a_0", "b_0"]);
}

pub(crate) async fn chunks_come_in_pages(store: &Store) {
    let mut points: Vec<_> = (0..25).rev().map(|i| point("a", 2, i, &format!("chunk {i}"))).collect();
    points.extend([point("a", 1, 0, "old"), point("b", 2, 0, "other")]);
    let expected: Vec<Chunk> = (0..25).map(|i| points[24 - i].passage.chunk.clone()).collect();
    store.upsert(points).await.unwrap();
    let page =
        async |from, limit| store.chunks(&tenant("acme"), &document("a"), 2, ChunkPage { from, limit }).await.unwrap();
    assert_eq!(page(0, 10).await, expected[..10]);
    assert_eq!(page(10, 10).await, expected[10..20]);
    assert_eq!(page(20, 10).await, expected[20..]);
    assert_eq!(page(0, 1_000).await, expected);
    assert!(page(25, 10).await.is_empty());
    assert!(page(0, 0).await.is_empty());
    let foreign = store.chunks(&tenant("globex"), &document("a"), 2, ChunkPage { from: 0, limit: 9 }).await.unwrap();
    assert!(foreign.is_empty());
}

pub(crate) async fn a_foreign_tenant_changes_no_score(store: &Store) {
    let texts = ["invoice and receipt", "invoice", "holiday"];
    store.upsert((0..).zip(texts).map(|(i, text)| point("ours", 1, i, text)).collect()).await.unwrap();
    let scores = async || {
        let results = search(store, &ada(), ask(None, Some("invoice receipt"))).await;
        results.sparse.iter().map(|hit| (hit.id, hit.score)).collect::<Vec<_>>()
    };
    let before = scores().await;
    let theirs = (0..300).map(|i| Point { tenant: tenant("globex"), ..point("theirs", 1, i, "receipt receipt") });
    store.upsert(theirs.collect()).await.unwrap();
    let after = scores().await;
    assert_eq!(before.len(), 2);
    assert_eq!(before.iter().map(|(id, _)| id).collect::<Vec<_>>(), after.iter().map(|(id, _)| id).collect::<Vec<_>>());
    for ((_, before), (_, after)) in before.iter().zip(&after) {
        assert!((before - after).abs() < 1e-5, "{before} became {after}");
    }
}

/// Random metadata and random filters: the store lets through what [`Filter::matches`] does.
pub(crate) async fn filters_agree_with_their_definition(store: &Store) {
    let mut random = StdRng::seed_from_u64(20_261_124);
    let points: Vec<_> = (0..300)
        .map(|i| {
            let mut point = point(&format!("d{i}"), 1, 0, "x");
            point.passage.metadata = metadata(random_metadata(&mut random));
            point
        })
        .collect();
    let documents: Vec<_> = points.iter().map(|p| (p.passage.chunk_id(), p.passage.metadata.clone())).collect();
    store.upsert(points).await.unwrap();
    let mut selective = 0;
    for _ in 0..600 {
        let filter = random_filter(&mut random, 3);
        let parsed = Filter::parse(&filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
        let matching = documents.iter().filter(|(_, metadata)| parsed.matches(metadata));
        let mut expected: Vec<_> = matching.map(|(name, _)| name.clone()).collect();
        expected.sort();
        selective += usize::from(!expected.is_empty() && expected.len() < documents.len());
        let query = SearchQuery { limit: 400, ..filtered(filter.clone()) };
        assert_eq!(found(store, &ada(), query).await, expected, "{filter}");
    }
    assert!(selective > 200, "the filters tell documents apart: {selective}");
}

const FIELDS: &[&str] = &["a", "b c", "nested.x", "nested.deep.y", "list", "when"];

fn random_scalar(random: &mut StdRng) -> Value {
    match random.random_range(0..9) {
        0 | 1 => json!(random.random_range(0..4)),
        2 => json!(f64::from(random.random_range(0..8)) / 2.0),
        3 | 4 => json!(["red", "green", "", "Grün"].choose(random).unwrap()),
        5 => json!(random.random_bool(0.5)),
        6 => json!(format!("2024-0{}-15", random.random_range(1..6))),
        7 => json!(format!("2024-0{}-15T08:00:00+0{}:00", random.random_range(1..6), random.random_range(0..9))),
        _ => [json!(9_007_199_254_740_993_i64), json!(-3), json!(1e300)].choose(random).unwrap().clone(),
    }
}

fn random_value(random: &mut StdRng) -> Value {
    match random.random_range(0..10) {
        0 => Value::Null,
        1 => json!([]),
        2 => json!([[random_scalar(random)], null]),
        3 | 4 => (0..random.random_range(1..4)).map(|_| random_scalar(random)).collect(),
        _ => random_scalar(random),
    }
}

pub(crate) fn random_metadata(random: &mut StdRng) -> Value {
    let mut metadata = json!({});
    for field in ["a", "b c", "list", "when"] {
        if random.random_bool(0.7) {
            metadata[field] = random_value(random);
        }
    }
    match random.random_range(0..4) {
        0 => {}
        1 => metadata["nested"] = random_value(random),
        2 => metadata["nested"] = json!({"x": random_value(random)}),
        _ => metadata["nested"] = json!({"x": random_value(random), "deep": {"y": random_value(random)}}),
    }
    metadata
}

pub(crate) fn random_filter(random: &mut StdRng, depth: usize) -> Value {
    if depth > 0 && random.random_bool(0.4) {
        let list: Vec<_> = (0..random.random_range(0..4)).map(|_| random_filter(random, depth - 1)).collect();
        return match random.random_range(0..3) {
            0 => json!({"$and": list}),
            1 => json!({"$or": list}),
            _ => json!({"$not": random_filter(random, depth - 1)}),
        };
    }
    let field = *FIELDS.choose(random).unwrap();
    let list: Vec<_> = (0..random.random_range(0..4)).map(|_| random_scalar(random)).collect();
    let limit = |random: &mut StdRng| f64::from(random.random_range(0..8)) / 2.0;
    let date = |random: &mut StdRng| format!("2024-0{}-15T05:00:00Z", random.random_range(1..6));
    json!({field: match random.random_range(0..10) {
        0 => random_scalar(random),
        1 => json!({"$ne": random_scalar(random)}),
        2 => json!({"$in": list}),
        3 => json!({"$nin": list}),
        4 => json!({"$exists": random.random_bool(0.5)}),
        5 => Value::Null,
        6 => json!({"$gt": limit(random), "$lte": limit(random)}),
        7 => json!({"$gte": date(random)}),
        8 => json!({"$lt": date(random), "$ne": random_scalar(random)}),
        _ => json!({"$not": {"$lt": limit(random)}}),
    }})
}

pub(crate) async fn a_reader_sees_the_old_or_the_new_version(store: &Store) {
    let chunks = |version| (0..30).map(|i| point("a", version, i, "invoice")).collect::<Vec<_>>();
    store.upsert(chunks(1)).await.unwrap();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for version in 2..12 {
                store.upsert(chunks(version)).await.unwrap();
                store.flush().await.unwrap();
                store.delete(&tenant("acme"), &document("a"), Versions::Except(version)).await.unwrap();
            }
        }
    });
    let mut searches = 0;
    while !writer.is_finished() || searches == 0 {
        let results = search(store, &ada(), ask(Some(vector(1)), Some("invoice"))).await;
        if results.gone > 0 {
            continue;
        }
        for hits in [&results.dense, &results.sparse] {
            let mut by_version: HashMap<Version, usize> = HashMap::new();
            hits.iter().for_each(|hit| *by_version.entry(hit.passage.version).or_default() += 1);
            assert!(by_version.values().any(|count| *count == 30), "a whole version is there: {by_version:?}");
        }
        searches += 1;
    }
    writer.await.unwrap();
}

pub(crate) async fn concurrent_flushes_all_return(store: &Store) {
    let write = |i: u32| {
        let store = store.clone();
        tokio::spawn(async move {
            store.upsert(vec![point("a", 1, i, "invoice")]).await.unwrap();
            store.flush().await.unwrap();
        })
    };
    for task in (0..40).map(write).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(found(store, &ada(), ask(Some(vector(1)), None)).await.len(), 40);
}

pub(crate) async fn ten_thousand_points_stay_exact_and_scoped(store: &Store) {
    let points: Vec<_> = (0..10_000_u32)
        .map(|i| {
            let mut point = point(&format!("d{}", i / 10), 1, i % 10, &format!("invoice number{i}"));
            point.dense = vector(u64::from(i));
            if i % 3 == 0 {
                point.principals = vec![reader("bob")];
            }
            point.passage.metadata = metadata(json!({"n": i}));
            point
        })
        .collect();
    let nearest = |question: &[f32], visible: &dyn Fn(usize) -> bool| {
        let dot = |point: &Point| point.dense.iter().zip(question).map(|(a, b)| a * b).sum::<f32>();
        let mut all: Vec<_> =
            points.iter().enumerate().filter(|(i, _)| visible(*i)).map(|(_, p)| (dot(p), p.id())).collect();
        all.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.cmp(y)));
        all.into_iter().take(20).map(|(_, id)| id).collect::<Vec<_>>()
    };
    for batch in points.chunks(1_000) {
        store.upsert(batch.to_vec()).await.unwrap();
    }
    store.flush().await.unwrap();
    for optimized in [false, true] {
        if optimized {
            store.optimize().await.unwrap();
            assert!(!store.optimize().await.unwrap(), "nothing is left to do");
        }
        let mut right = 0;
        for seed in 0..20 {
            let question = vector(1_000_000 + seed);
            let mut query = SearchQuery { limit: 20, ..ask(Some(question.clone()), Some("number77 number78")) };
            let all = search(store, &ada(), query.clone()).await;
            let expected = nearest(&question, &|i| i % 3 != 0);
            right += all.dense.iter().filter(|hit| expected.contains(&hit.id)).count();
            assert_eq!(names(&all.sparse), ["d7_7"], "78 is Bob's");
            query.filter = Some(Filter::parse(&json!({"n": {"$lt": 1_000}})).unwrap());
            let some = search(store, &ada(), query).await;
            let expected = nearest(&question, &|i| i % 3 != 0 && i < 1_000);
            right += some.dense.iter().filter(|hit| expected.contains(&hit.id)).count();
        }
        // Graph search over these 8-dimensional vectors misses next to none; a plain scan none.
        let least = if optimized { 780 } else { 800 };
        assert!(right >= least, "{right} of 800 nearest, optimized: {optimized}");
    }
}

pub(crate) async fn writes_go_on_while_it_optimizes(store: &Store) {
    let write = async |version: Version| {
        for name in ["a", "b", "c"] {
            store.upsert((0..300).map(|i| point(name, version, i, "invoice")).collect()).await.unwrap();
            store.delete(&tenant("acme"), &document(name), Versions::Except(version)).await.unwrap();
        }
    };
    write(1).await;
    let optimizer = tokio::spawn({
        let store = store.clone();
        async move {
            for _ in 0..8 {
                store.optimize().await.unwrap();
            }
        }
    });
    for version in 2..8 {
        write(version).await;
    }
    optimizer.await.unwrap();
    store.optimize().await.unwrap();
    for name in ["a", "b", "c"] {
        for (version, expected) in [(6, 0), (7, 300)] {
            let page = ChunkPage { from: 0, limit: 1_000 };
            let chunks = store.chunks(&tenant("acme"), &document(name), version, page).await.unwrap();
            assert_eq!(chunks.len(), expected, "{name} version {version}");
        }
    }
}

pub(crate) async fn points_come_back_with_their_vectors(store: &Store) {
    let mut written: Vec<Point> = (0..5).map(|i| point("a", 2, i, &format!("invoice number {i}"))).collect();
    written[1].passage.metadata = metadata(json!({"year": 2023, "nested": {"deep": [1.5, null, true]}}));
    written[2].principals = vec![Principal::public(), reader("bob")];
    // Without terms, and for nobody.
    written[3] = Point { sparse: Default::default(), principals: Vec::new(), ..point("a", 2, 3, "") };
    let foreign = Point { tenant: tenant("other"), ..point("a", 2, 0, "not asked for") };
    store
        .upsert([written.clone(), vec![point("a", 1, 0, "old"), point("b", 2, 0, "other"), foreign]].concat())
        .await
        .unwrap();
    let page = async |from, limit| {
        let page = ChunkPage { from, limit };
        let mut points = store.points(&tenant("acme"), &document("a"), 2, page).await.unwrap();
        // A store may keep the terms in any order, and brings embeddings to length 1 once more.
        for point in &mut points {
            let mut terms: Vec<_> = point.sparse.indices.iter().copied().zip(point.sparse.values.clone()).collect();
            terms.sort_by_key(|(term, _)| *term);
            (point.sparse.indices, point.sparse.values) = terms.into_iter().unzip();
        }
        points
    };
    for point in &mut written {
        let mut terms: Vec<_> = point.sparse.indices.iter().copied().zip(point.sparse.values.clone()).collect();
        terms.sort_by_key(|(term, _)| *term);
        (point.sparse.indices, point.sparse.values) = terms.into_iter().unzip();
    }
    let (first, rest) = (page(0, 2).await, page(2, 10).await);
    assert_eq!((first.len(), rest.len()), (2, 3));
    for (read, written) in first.into_iter().chain(rest).zip(&written) {
        assert!(
            read.dense.iter().zip(&written.dense).all(|(a, b)| (a - b).abs() < 1e-6) && read.dense.len() == DIMENSIONS
        );
        assert_eq!(Point { dense: written.dense.clone(), ..read }, *written);
    }
    assert!(page(5, 10).await.is_empty() && page(0, 0).await.is_empty());
}
