//! Both stores with the same content give the same answers to the same questions.

use std::collections::HashSet;
use std::sync::Arc;

use rag_api::document::{Principal, Scope};
use rag_api::retrieve::filter::Filter;
use rag_api::vector_store::bm25::Bm25;
use rag_api::vector_store::{ChunkPage, Hit, Point, SearchQuery, SearchResults, SparseVector, VectorStore, Versions};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use uuid::Uuid;

use super::conformance::{metadata, point, random_filter, random_metadata, vector};
use super::edge;
use super::qdrant::qdrant;

/// How far scores of the same point may be apart.
const TOLERANCE: f32 = 1e-4;

const WORDS: [&str; 12] = [
    "invoice",
    "receipt",
    "ten",
    "years",
    "holiday",
    "Ünïcödé",
    "发票必须保留十年",
    "год",
    "2023",
    "audit",
    "tax",
    "🧾",
];
const READERS: [&str; 4] = ["user:ada", "user:bob", "group:finance", "public"];

type Stores = [Arc<dyn VectorStore>; 2];

fn readers(random: &mut StdRng) -> Vec<Principal> {
    let number = random.random_range(0..4);
    READERS.choose_multiple(random, number).map(|name| name.parse().unwrap()).collect()
}

fn text(random: &mut StdRng, words: usize) -> String {
    (0..words).map(|_| *WORDS.choose(random).unwrap()).collect::<Vec<_>>().join(" ")
}

/// A few vectors and short texts, so that ties are many.
fn random_point(random: &mut StdRng) -> Point {
    let words = random.random_range(0..6);
    let text = text(random, words);
    let mut point =
        point(&format!("d{}", random.random_range(0..40)), random.random_range(1..3), random.random_range(0..5), &text);
    point.dense = vector(random.random_range(0..60));
    point.tenant = ["acme", "globex"].choose(random).unwrap().parse().unwrap();
    point.principals = readers(random);
    point.passage.metadata = metadata(random_metadata(random));
    point
}

fn random_query(random: &mut StdRng) -> (Scope, SearchQuery) {
    let scope = Scope::new(["acme", "globex"].choose(random).unwrap().parse().unwrap(), readers(random));
    let dense = random.random_bool(0.8).then(|| vector(random.random_range(0..80)));
    let sparse = random.random_bool(0.8).then(|| Bm25::new().unwrap().query(&text(random, 3)));
    let filter = random.random_bool(0.6).then(|| match random.random_range(0..8) {
        0 => json!({"$or": []}),
        1 => json!({"a": {"$in": []}}),
        2 => json!({"$not": {"$or": []}}),
        _ => random_filter(random, 2),
    });
    let exclude = (0..random.random_range(0..4)).map(|i| (format!("d{i}").parse().unwrap(), random.random_range(1..3)));
    let query = SearchQuery {
        dense,
        sparse,
        exclude: exclude.collect(),
        filter: filter.map(|filter| Filter::parse(&filter).unwrap()),
        limit: *[0, 1, 3, 10, 100, 10_000].choose(random).unwrap(),
    };
    (scope, query)
}

fn assert_same_hits(edge: &[Hit], qdrant: &[Hit], what: &str) {
    let ids = |hits: &[Hit]| hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
    assert_eq!(ids(edge), ids(qdrant), "{what}");
    for (edge, qdrant) in edge.iter().zip(qdrant) {
        assert!((edge.score - qdrant.score).abs() < TOLERANCE, "{what}: {edge:?} {qdrant:?}");
    }
}

fn terms(vector: &SparseVector) -> Vec<(u32, u32)> {
    let mut terms: Vec<_> = vector.indices.iter().copied().zip(vector.values.iter().map(|w| w.to_bits())).collect();
    terms.sort_unstable();
    terms
}

/// Asks both; how many hits both gave.
async fn agree_on(stores: &Stores, scope: &Scope, query: &SearchQuery) -> usize {
    let what = format!("{scope:?} {query:?}");
    let [edge, qdrant]: [SearchResults; 2] =
        [stores[0].search(scope, query.clone()).await.unwrap(), stores[1].search(scope, query.clone()).await.unwrap()];
    assert_same_hits(&edge.dense, &qdrant.dense, &what);
    assert_same_hits(&edge.sparse, &qdrant.sparse, &what);
    assert_eq!(terms(&edge.best_terms), terms(&qdrant.best_terms), "{what}");
    let mut ids: Vec<Uuid> = edge.dense.iter().chain(&edge.sparse).map(|hit| hit.id).collect();
    let mut seen = HashSet::new();
    ids.retain(|id| seen.insert(*id));
    let question = query.dense.as_deref();
    let passages = [
        stores[0].passages(scope, &ids, question).await.unwrap(),
        stores[1].passages(scope, &ids, question).await.unwrap(),
    ];
    assert_eq!(passages[0].len(), passages[1].len(), "{what}");
    for (edge, qdrant) in passages[0].iter().zip(&passages[1]) {
        assert_eq!((edge.id, &edge.passage), (qdrant.id, &qdrant.passage), "{what}");
        let apart = edge.cosine.unwrap_or(0.0) - qdrant.cosine.unwrap_or(0.0);
        assert!(edge.cosine.is_some() == qdrant.cosine.is_some() && apart.abs() < TOLERANCE, "{what}");
    }
    ids.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_stores_give_the_same_answers() {
    let (edge, qdrant) = (edge().await, qdrant().await);
    let stores: Stores = [edge.store.clone(), qdrant.store.clone()];
    let mut random = StdRng::seed_from_u64(20_261_125);
    let mut hits = 0;
    for round in 0..4 {
        let points: Vec<_> = (0..150).map(|_| random_point(&mut random)).collect();
        let document = format!("d{}", random.random_range(0..40)).parse().unwrap();
        let versions = [Versions::All, Versions::Except(1), Versions::Except(2)][random.random_range(0..3)];
        for store in &stores {
            // Each operation again: nothing changes.
            for _ in 0..=round % 2 {
                store.upsert(points.clone()).await.unwrap();
                store.delete(&"acme".parse().unwrap(), &document, versions).await.unwrap();
            }
        }
        for _ in 0..150 {
            let (scope, query) = random_query(&mut random);
            hits += agree_on(&stores, &scope, &query).await;
        }
        for (number, version) in (0..40).flat_map(|number| [(number, 1), (number, 2)]) {
            let (tenant, document) = ("acme".parse().unwrap(), format!("d{number}").parse().unwrap());
            let page = ChunkPage { from: number % 3, limit: 3 };
            let chunks = [
                stores[0].chunks(&tenant, &document, version, page).await.unwrap(),
                stores[1].chunks(&tenant, &document, version, page).await.unwrap(),
            ];
            assert_eq!(chunks[0], chunks[1]);
        }
    }
    assert!(hits > 2_000, "{hits} hits were compared");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_hits_are_the_same_ten_thousand() {
    let (edge, qdrant) = (edge().await, qdrant().await);
    let stores: Stores = [edge.store.clone(), qdrant.store.clone()];
    let points: Vec<_> = (0..10_050_u32)
        .map(|i| {
            let mut point = point(&format!("d{}", i / 100), 1, i % 100, "invoice");
            // Twenty of each: ties everywhere.
            point.dense = vector(u64::from(i / 20));
            point
        })
        .collect();
    for store in &stores {
        for points in points.chunks(1_000) {
            store.upsert(points.to_vec()).await.unwrap();
        }
    }
    let scope = Scope::new("acme".parse().unwrap(), vec!["user:ada".parse().unwrap()]);
    let sparse = Some(Bm25::new().unwrap().query("invoice"));
    for limit in [10, 4_000, 10_100] {
        let query = SearchQuery { dense: Some(vector(7)), sparse: sparse.clone(), limit, ..SearchQuery::default() };
        let [edge, qdrant] =
            [stores[0].search(&scope, query.clone()).await.unwrap(), stores[1].search(&scope, query).await.unwrap()];
        assert_eq!(edge.dense.len(), limit.min(10_050));
        assert_same_hits(&edge.dense, &qdrant.dense, "dense");
        // Beyond a few thousand equal scores, which are found is the engine's choice.
        if limit > 10_050 {
            assert_same_hits(&edge.sparse, &qdrant.sparse, "sparse");
        }
    }
}
