//! A corpus that is made, not read: clustered unit vectors, words after Zipf's law, tenants and readers. The same seed
//! gives the same corpus, whatever its size.

use rag_api::document::{Chunk, Metadata, Passage, Principal, TenantId};
use rag_api::error::Result;
use rag_api::vector_store::Point;
use rag_api::vector_store::bm25::Bm25;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Length of the vectors, that of the default model.
pub(crate) const DIMENSIONS: usize = 384;
/// Chunks of a document.
pub(crate) const CHUNKS_PER_DOCUMENT: usize = 25;

const CLUSTERS: usize = 256;
const VOCABULARY: usize = 30_000;
const WORDS_PER_CHUNK: usize = 110;
/// Words that are in most chunks; a question has none of them, as it has no stop words.
const COMMON_WORDS: usize = 50;
const GROUPS: usize = 8;

/// One document of the corpus.
pub(crate) struct Document {
    pub(crate) tenant: TenantId,
    pub(crate) id: String,
    pub(crate) readers: Vec<Principal>,
    cluster: usize,
    rng: StdRng,
}

/// What documents and questions are drawn from.
pub(crate) struct Corpus {
    seed: u64,
    centroids: Vec<Vec<f32>>,
    /// Cumulated probabilities of the words, most frequent first.
    zipf: Vec<f64>,
}

impl Corpus {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let centroids = (0..CLUSTERS).map(|_| unit(noise(&mut rng))).collect();
        let mut total = 0.0;
        let mut zipf: Vec<f64> = (1..=VOCABULARY)
            .map(|rank| {
                total += 1.0 / rank as f64;
                total
            })
            .collect();
        zipf.iter_mut().for_each(|sum| *sum /= total);
        Self { seed, centroids, zipf }
    }

    /// The document of this number. Four fifths are of one tenant; six tenths are public in it.
    pub(crate) fn document(&self, number: usize) -> Result<Document> {
        let mut rng = StdRng::seed_from_u64(self.seed ^ (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let tenant = match rng.random_range(0..20) {
            0..16 => "acme",
            16..19 => "beta",
            _ => "gamma",
        };
        let reader = match rng.random_range(0..10) {
            0..6 => Principal::public(),
            _ => Principal::group(&format!("g{}", rng.random_range(0..GROUPS)))?,
        };
        let cluster = rng.random_range(0..CLUSTERS);
        Ok(Document { tenant: tenant.parse()?, id: format!("doc-{number}"), readers: vec![reader], cluster, rng })
    }

    /// The points of a document's version.
    pub(crate) fn points(&self, document: &mut Document, version: u64, bm25: &Bm25) -> Result<Vec<Point>> {
        let mut metadata = Metadata::new();
        metadata.insert("cluster".to_owned(), document.cluster.into());
        (0..CHUNKS_PER_DOCUMENT)
            .map(|number| {
                let text = self.text(document.cluster, WORDS_PER_CHUNK, 0, &mut document.rng);
                let sparse = bm25.document(&text);
                let start = (number * 800) as u64;
                let chunk = Chunk {
                    chunk_idx: number as u32,
                    end: start + text.len() as u64,
                    text,
                    headings: vec![format!("Part {number}")],
                    page: None,
                    start,
                };
                let passage = Passage {
                    document_id: document.id.parse()?,
                    version,
                    title: format!("Document {}", document.id),
                    metadata: metadata.clone(),
                    chunk,
                };
                let dense = self.near(document.cluster, &mut document.rng);
                let principals = document.readers.clone();
                Ok(Point { tenant: document.tenant.clone(), principals, passage, dense, sparse })
            })
            .collect()
    }

    /// The question of this number; its first word is the number, by which [`Corpus::vector`] knows it again.
    pub(crate) fn question(&self, number: usize) -> String {
        let (cluster, mut rng) = self.asked(number);
        format!("q{number} {}", self.text(cluster, 6, COMMON_WORDS, &mut rng))
    }

    /// The embedding of a question.
    pub(crate) fn vector(&self, question: &str) -> Vec<f32> {
        let digits = question.strip_prefix('q').and_then(|rest| rest.split(' ').next());
        let number = digits.and_then(|digits| digits.parse().ok()).unwrap_or(question.len());
        let (cluster, mut rng) = self.asked(number);
        self.near(cluster, &mut rng)
    }

    fn asked(&self, number: usize) -> (usize, StdRng) {
        let mut rng = StdRng::seed_from_u64(!self.seed ^ (number as u64).wrapping_mul(0xD1B5_4A32_D192_ED03));
        (rng.random_range(0..CLUSTERS), rng)
    }

    /// A vector about as near to its cluster's centre as a chunk is to its subject.
    fn near(&self, cluster: usize, rng: &mut StdRng) -> Vec<f32> {
        let around = unit(noise(rng));
        unit(self.centroids[cluster].iter().zip(around).map(|(centre, noise)| centre + noise).collect())
    }

    /// Words after Zipf's law, a fifth of them from the cluster's own.
    fn text(&self, cluster: usize, words: usize, skipped: usize, rng: &mut StdRng) -> String {
        let mut text = String::with_capacity(words * 7);
        for _ in 0..words {
            let rank = if rng.random_range(0..5) == 0 {
                1_000 + (cluster * 101 + rng.random_range(0..40)) % (VOCABULARY - 1_000)
            } else {
                loop {
                    let drawn: f64 = rng.random();
                    let rank = self.zipf.partition_point(|sum| *sum < drawn);
                    if rank >= skipped {
                        break rank;
                    }
                }
            };
            if !text.is_empty() {
                text.push(' ');
            }
            word(rank, &mut text);
        }
        text
    }
}

/// A word of syllables that no stemmer shortens.
fn word(mut rank: usize, text: &mut String) {
    const CONSONANTS: &[u8] = b"bdfgklmnprtvz";
    const VOWELS: &[u8] = b"aou";
    for _ in 0..4 {
        text.push(char::from(CONSONANTS[rank % CONSONANTS.len()]));
        rank /= CONSONANTS.len();
        text.push(char::from(VOWELS[rank % VOWELS.len()]));
        rank /= VOWELS.len();
    }
}

fn noise(rng: &mut StdRng) -> Vec<f32> {
    // The sum of a few uniform numbers is near enough to normal.
    (0..DIMENSIONS).map(|_| (0..3).map(|_| rng.random::<f32>() - 0.5).sum()).collect()
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}
