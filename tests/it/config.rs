//! The configuration as an operator meets it: sources, precedence, and the one line that refuses a mistake.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rag_api::blob::s3::{Credentials, RoleVariable};
use rag_api::config::{Config, LoadOptions, Loaded, Secret, load, render};
use rag_api::error::ErrorKind;
use rag_api::models::ModelSource;
use rag_api::{blob, cache, catalog, embedding, limit, llm, redis, rerank, vector_store};

const ADMIN_KEY: &str = "0123456789-an-admin-key-of-the-tests";

/// A folder that a server is started in, and the variables that it gets.
struct Place {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    profile: Option<String>,
}

impl Place {
    fn new() -> Self {
        let home = ("HOME".to_owned(), "/home/someone".to_owned());
        Self { folder: tempfile::tempdir().unwrap(), environment: vec![home], profile: None }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn profile(mut self, profile: &str) -> Self {
        self.profile = Some(profile.to_owned());
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn try_load(&self) -> rag_api::error::Result<Loaded> {
        load(LoadOptions {
            profile: self.profile.clone(),
            directory: Some(self.path().to_owned()),
            environment: Some(self.environment.clone()),
            ..LoadOptions::default()
        })
    }

    fn load(&self) -> Config {
        self.try_load().unwrap().config
    }

    /// The one line that the start stops with.
    fn refusal(&self) -> String {
        let error = self.try_load().expect_err("the start is refused");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let line = error.to_string();
        assert!(!line.contains('\n'), "one line: {line}");
        line
    }

    fn source(&self, name: &str) -> String {
        let loaded = self.try_load().unwrap();
        loaded.settings.into_iter().find(|setting| setting.name == name).expect("a known setting").source
    }
}

/// The refusal of one variable's value.
fn refused(name: &str, value: &str) -> String {
    Place::new().env(name, value).refusal()
}

#[test]
fn without_any_setting_everything_is_local() {
    let config = Place::new().load();
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.http.metrics_listen, None);
    assert_eq!(config.http.request_timeout, Duration::from_secs(45));
    assert_eq!(config.http.max_body_bytes, 25 << 20);
    assert_eq!(config.ingest.max_document_bytes, 25 << 20);
    assert_eq!((config.limit.query.requests, config.limit.query.window), (100, Duration::from_secs(60)));
    assert_eq!(config.cache.ttl, Duration::from_secs(3600));
    assert_eq!((config.retrieve.top_k, config.retrieve.rerank_top_k), (10, 5));
    assert_eq!(config.answer.max_context_tokens, 4000);
    assert_eq!(config.models.cache, Path::new("/home/someone/.cache/rag-api"));
    let model = ModelSource::Cached("all-MiniLM-L6-v2".to_owned());
    assert_eq!(config.embedding, embedding::Config::Local { model, sessions: 0 });
    assert_eq!(config.rerank, rerank::Config::LateInteraction { cache_bytes: 64 << 20 });
    assert_eq!(config.llm, [llm::Config::Extractive]);
    let vectors = vector_store::Config::Edge { path: "./data/vectors".into(), collection: "documents".to_owned() };
    assert_eq!(config.vector_store, vectors);
    assert_eq!(config.catalog, catalog::Config::Sqlite { path: "./data/catalog.db".into() });
    assert_eq!(config.blob, blob::Config::File { path: "./data/originals".into() });
    assert_eq!(config.auth.admin_api_key, None);
}

#[test]
fn the_environment_wins_over_dotenv_over_the_profile_over_the_defaults() {
    let place = Place::new().file("config/site.toml", "retrieval_top_k = 11\nrerank_top_k = 6\nchunk_tokens = 150\n");
    let place =
        place.file(".env", "# of this site\nRAG_RERANK_TOP_K=7\nexport RAG_CHUNK_TOKENS='160'\nPATH=/nowhere\n");
    let place = place.env("RAG_CHUNK_TOKENS", "170").profile("site");
    let config = place.load();
    assert_eq!(config.retrieve.top_k, 11);
    assert_eq!(config.retrieve.rerank_top_k, 7);
    assert_eq!(config.ingest.chunk_tokens, 170);
    assert_eq!(place.source("RAG_CHUNK_OVERLAP_TOKENS"), "default");
    assert_eq!(place.source("RAG_RETRIEVAL_TOP_K"), "config/site.toml");
    assert_eq!(place.source("RAG_RERANK_TOP_K"), ".env");
    assert_eq!(place.source("RAG_CHUNK_TOKENS"), "environment");
}

#[test]
fn the_profile_comes_from_the_command_line_the_environment_or_dotenv() {
    let files = || Place::new().file("config/a.toml", "rerank_top_k = 1").file("config/b.toml", "rerank_top_k = 2");
    assert_eq!(files().file(".env", "RAG_PROFILE=a").load().retrieve.rerank_top_k, 1);
    assert_eq!(files().file(".env", "RAG_PROFILE=a").env("RAG_PROFILE", "b").load().retrieve.rerank_top_k, 2);
    assert_eq!(files().env("RAG_PROFILE", "b").profile("a").load().retrieve.rerank_top_k, 1);
    let line = files().profile("c").refusal();
    assert!(
        line.starts_with("RAG_PROFILE: there is no ") && line.ends_with("config/c.toml for the profile c"),
        "{line}"
    );
    let line = files().profile("../a").refusal();
    assert_eq!(line, r#"RAG_PROFILE: "../a" is not a name of letters, digits, - and _"#);
}

#[test]
fn a_file_for_the_local_profile_is_read_where_there_is_one() {
    assert_eq!(Place::new().file("config/local.toml", "rerank_top_k = 9").load().retrieve.rerank_top_k, 9);
}

#[test]
fn an_unknown_name_stops_the_start_and_names_the_nearest() {
    assert_eq!(
        refused("RAG_VECTORDB_URL", "edge:./x"),
        "RAG_VECTORDB_URL (environment): no such setting; the nearest is RAG_VECTOR_DB_URL"
    );
    assert_eq!(
        Place::new().file(".env", "RAG_LISTN=1").refusal(),
        "RAG_LISTN (.env): no such setting; the nearest is RAG_LISTEN"
    );
    assert_eq!(
        Place::new().file("config/local.toml", "rerank_topk = 5").refusal(),
        "rerank_topk (config/local.toml): no such setting; the nearest is rerank_top_k"
    );
    assert_eq!(
        Place::new().file("config/local.toml", "[http]\nlisten = \"0.0.0.0:1\"").refusal(),
        "http (config/local.toml): no such setting; the nearest is log"
    );
    assert_eq!(
        refused("RAG_listen", "127.0.0.1:1"),
        "RAG_listen (environment): no such setting; the nearest is RAG_LISTEN"
    );
    assert_eq!(
        refused("RAG_LISTEN_FILE", "/run/listen"),
        "RAG_LISTEN_FILE (environment): no such setting; the nearest is RAG_LISTEN"
    );
}

#[test]
fn what_only_looks_like_a_setting_is_left_alone() {
    let place = Place::new()
        .env("RAG_TEST_QDRANT_URL", "x")
        .env("RAG_BIN", "/usr/bin/rag-api")
        .env("RAG_API_SERVICE_HOST", "10.0.0.1")
        .env("RAG_API_PORT_8000_TCP_ADDR", "10.0.0.1")
        .env("RAG_API_PORT", "tcp://10.0.0.1:8000");
    assert_eq!(place.load(), Place::new().load());
}

#[test]
fn a_wrong_value_stops_the_start_with_name_source_and_what_is_allowed() {
    assert_eq!(
        refused("RAG_LISTEN", "8000"),
        r#"RAG_LISTEN (environment): expected ADDRESS:PORT, such as 127.0.0.1:8000, got "8000""#
    );
    assert_eq!(
        Place::new().file(".env", "RAG_RERANK_TOP_K=51").refusal(),
        r#"RAG_RERANK_TOP_K (.env): expected a number from 1 to 50, got "51""#
    );
    assert_eq!(
        Place::new().file("config/local.toml", "cache_ttl_seconds = -1").refusal(),
        r#"RAG_CACHE_TTL_SECONDS (config/local.toml): expected a number from 0 to 2592000, got "-1""#
    );
    assert_eq!(
        refused("RAG_LISTEN", ""),
        "RAG_LISTEN (environment): must not be empty; expected ADDRESS:PORT, such as 127.0.0.1:8000"
    );
    assert_eq!(
        Place::new().file("config/local.toml", "log.level = 1").refusal(),
        "RAG_LOG (config/local.toml): expected one value"
    );
    assert!(refused("RAG_LOG", "rag_api=loudest").starts_with("RAG_LOG (environment): expected a level or a filter"));
    assert!(refused("RAG_RETRIEVAL_RRF_K", "NaN").contains("expected a number from 1 to 10000"));
    assert!(refused("RAG_RETRIEVAL_FUSION", "borda").contains("expected scores or rrf"));
    assert!(refused("RAG_TRUSTED_PROXIES", "10.0.0.0/33").contains("addresses or networks"));
}

/// Each setting that `config/default.toml` has is read: a value that nothing can be is refused by its name.
#[test]
fn no_setting_is_ignored() {
    let anything_goes = [
        "RAG_COHERE_API_KEY",
        "RAG_MODELS_DIR",
        "RAG_ONNX_RUNTIME",
        "RAG_OPENAI_API_KEY",
        "RAG_PDFIUM_LIBRARY",
        "RAG_VECTOR_DB_API_KEY",
    ];
    let loaded = Place::new().try_load().unwrap();
    assert!(loaded.settings.len() > 40);
    for setting in loaded.settings {
        let place = Place::new().env(&setting.name, "=? *");
        if anything_goes.contains(&setting.name.as_str()) {
            assert_eq!(place.source(&setting.name), "environment");
        } else {
            let line = place.refusal();
            assert!(line.starts_with(&format!("{} (environment): ", setting.name)), "{line}");
        }
    }
}

#[test]
fn files_that_cannot_be_parsed_are_named_without_their_content() {
    let line = Place::new().file("config/local.toml", "listen = \"a\"\nadmin_api_key = \"swordfish\n").refusal();
    assert!(line.starts_with("config/local.toml: TOML parse error at line 2"), "{line}");
    assert!(!line.contains("swordfish"), "{line}");
    let line = Place::new().file(".env", "RAG_LISTEN=127.0.0.1:1\nRAG_ADMIN_API_KEY='swordfish\n").refusal();
    assert!(line.ends_with(".env line 2: expected NAME=VALUE"), "{line}");
    assert!(!line.contains("swordfish"), "{line}");
}

#[test]
fn a_secret_stays_the_text_it_was() {
    let key = "00000000000000000000000123";
    let config = Place::new().env("RAG_ADMIN_API_KEY", key).env("RAG_OPENAI_API_KEY", "00123").load();
    assert_eq!(config.auth.admin_api_key.unwrap().expose(), key);
    let chain = Place::new().env("RAG_OPENAI_API_KEY", "00123").env("RAG_LLM_MODEL", "gpt-4o").load().llm;
    let [llm::Config::OpenAi { api_key: Some(api_key), .. }] = chain.as_slice() else { panic!("{chain:?}") };
    assert_eq!(api_key.expose(), "00123");
}

#[test]
fn a_secret_may_come_from_a_file() {
    let place = Place::new().file("secrets/admin", &format!("{ADMIN_KEY}\n"));
    let path = place.path().join("secrets/admin").display().to_string();
    // The stronger source hides the weaker, whichever of the two forms each has.
    let place =
        place.file(".env", "RAG_ADMIN_API_KEY=another-key-of-24-characters").env("RAG_ADMIN_API_KEY_FILE", &path);
    assert_eq!(place.load().auth.admin_api_key.unwrap().expose(), ADMIN_KEY);
    assert_eq!(place.source("RAG_ADMIN_API_KEY"), format!("environment, {path}"));

    let place = Place::new().file(".env", "RAG_ADMIN_API_KEY_FILE=/nowhere/key").env("RAG_ADMIN_API_KEY", ADMIN_KEY);
    assert_eq!(place.load().auth.admin_api_key.unwrap().expose(), ADMIN_KEY);

    let line = refused("RAG_ADMIN_API_KEY_FILE", "/nowhere/key");
    assert!(line.starts_with("RAG_ADMIN_API_KEY_FILE (environment): /nowhere/key: cannot be read"), "{line}");
    let line = Place::new().env("RAG_ADMIN_API_KEY", ADMIN_KEY).env("RAG_ADMIN_API_KEY_FILE", &path).refusal();
    assert_eq!(line, "RAG_ADMIN_API_KEY and RAG_ADMIN_API_KEY_FILE (environment): set one of them");
    let place = Place::new().file("database-url", "postgres://rag:swordfish@db/rag");
    let path = place.path().join("database-url").display().to_string();
    let loaded = place.env("RAG_DATABASE_URL_FILE", &path).try_load().unwrap();
    let catalog::Config::Postgres(database) = &loaded.config.catalog else { panic!("not PostgreSQL") };
    assert_eq!(database.url.expose(), "postgres://rag:swordfish@db/rag");
    assert!(!format!("{:?}{}", loaded.config, render(&loaded)).contains("swordfish"));
}

#[test]
fn no_secret_is_shown_anywhere() {
    let place = Place::new()
        .env("RAG_ADMIN_API_KEY", ADMIN_KEY)
        .env("RAG_OPENAI_API_KEY", "swordfish")
        .env("RAG_COHERE_API_KEY", "swordfish")
        .env("RAG_LLM_MODEL", "openai:small")
        .env("RAG_OPENAI_BASE_URL", "http://someone:swordfish@127.0.0.1:9000/v1");
    let loaded = place.try_load().unwrap();
    for text in [render(&loaded), format!("{:?}", loaded.settings), format!("{:?}", loaded.config.auth)] {
        assert!(!text.contains("swordfish") && !text.contains(ADMIN_KEY), "{text}");
    }
    assert!(render(&loaded).contains("http://[redacted]"));
    let line = refused("RAG_ADMIN_API_KEY", "swordfish");
    assert_eq!(line, "RAG_ADMIN_API_KEY (environment): must have 24 characters or more");
    let line = refused("RAG_MODEL_HUB", "ftp://someone:swordfish@host");
    assert!(!line.contains("swordfish"), "{line}");
}

#[test]
fn backends_are_chosen_by_the_form_of_their_names() {
    let embedding = |value: &str| match Place::new().env("RAG_EMBEDDING_MODEL", value).load().embedding {
        embedding::Config::Local { model, .. } => model,
        remote => panic!("{remote:?}"),
    };
    assert_eq!(embedding("path:./models/mine"), ModelSource::Path("./models/mine".into()));
    assert_eq!(embedding("hub:BAAI/bge-small-en-v1.5"), ModelSource::Hub("BAAI/bge-small-en-v1.5".to_owned()));
    assert_eq!(embedding("BAAI/bge-small-en-v1.5"), ModelSource::Hub("BAAI/bge-small-en-v1.5".to_owned()));
    assert_eq!(embedding("bge-small"), ModelSource::Cached("bge-small".to_owned()));
    let bundled = ModelSource::Cached("all-MiniLM-L6-v2".to_owned());
    assert_eq!(embedding("sentence-transformers/all-MiniLM-L6-v2"), bundled);
    assert!(refused("RAG_EMBEDDING_MODEL", "../secrets").contains("expected path:DIR, hub:NAME"));

    let rerank = |value: &str| Place::new().env("RAG_RERANKER_MODEL", value).load().rerank;
    let hub = ModelSource::Hub("cross-encoder/ms-marco-MiniLM-L-6-v2".to_owned());
    let expected = rerank::Config::CrossEncoder { model: hub, sessions: 0 };
    assert_eq!(rerank("cross-encoder/ms-marco-MiniLM-L-6-v2"), expected);
    assert_eq!(rerank("hub:cross-encoder/ms-marco-MiniLM-L-6-v2"), expected);
    assert_eq!(rerank("none"), rerank::Config::None);
    let model = ModelSource::Path("/models/reranker".into());
    assert_eq!(rerank("path:/models/reranker"), rerank::Config::CrossEncoder { model, sessions: 0 });
    assert!(refused("RAG_RERANKER_MODEL", "colbert").contains("expected late-interaction, none, path:DIR"));

    let store = Place::new().env("RAG_VECTOR_DB_URL", "edge:/srv/vectors").env("RAG_VECTOR_DB_COLLECTION", "notes");
    let expected = vector_store::Config::Edge { path: "/srv/vectors".into(), collection: "notes".to_owned() };
    assert_eq!(store.load().vector_store, expected);
    let qdrant =
        |url: &str| Place::new().env("RAG_VECTOR_DB_URL", url).env("RAG_VECTOR_DB_API_KEY", "swordfish").load();
    for (given, url) in [("http://qdrant:6334/", "http://qdrant:6334"), ("https://[::1]:443", "https://[::1]:443")] {
        let (url, api_key) = (url.to_owned(), Some(Secret::new("swordfish")));
        let expected = vector_store::Config::Qdrant { url, api_key, collection: "documents".to_owned() };
        assert_eq!(qdrant(given).vector_store, expected);
        assert!(!format!("{expected:?}").contains("swordfish"));
    }
    for url in
        ["http://qdrant", "http://:6334", "https://ada:swordfish@qdrant:6334", "http://qdrant:6334/a", "qdrant:6334"]
    {
        let line = refused("RAG_VECTOR_DB_URL", url);
        assert!(line.contains("expected ") && line.contains("http") && !line.contains("swordfish"), "{line}");
    }
    for name in ["../notes", &"x".repeat(65)] {
        let line = refused("RAG_VECTOR_DB_COLLECTION", name);
        assert!(line.contains("expected 1 to 64 of the characters A-Z a-z 0-9 - _, got"), "{line}");
    }
    for (url, path) in [("sqlite:a.db", "a.db"), ("sqlite:///srv/a.db", "/srv/a.db"), ("sqlite://./a.db", "./a.db")] {
        let config = Place::new().env("RAG_DATABASE_URL", url).load().catalog;
        assert_eq!(config, catalog::Config::Sqlite { path: path.into() });
    }
    assert!(refused("RAG_DATABASE_URL", "sqlite::memory:").contains("expected sqlite:PATH"));
    for url in ["postgres://rag@db/rag", "postgresql://db:5433/rag?sslmode=verify-full&sslrootcert=/etc/ca.pem"] {
        let place = Place::new().env("RAG_DATABASE_URL", url).env("RAG_DATABASE_MAX_CONNECTIONS", "7");
        let expected =
            catalog::PostgresConfig { url: Secret::new(url), max_connections: 7, timeout: Duration::from_secs(5) };
        assert_eq!(place.load().catalog, catalog::Config::Postgres(expected));
    }
    for (url, problem) in [
        ("postgres:///rag", "it names no server; expected postgres://USER"),
        ("postgres://rag:swordfish@/rag", "it names no server"),
        ("postgres://rag:sword#fish@db/rag", "it cannot be read; expected postgres://USER"),
        ("postgres://rag:swordfish@db:port/rag", "it cannot be read"),
        ("postgres://rag@db/rag?sslmod=require", "\"sslmod\" is no parameter of the URL; there are sslmode, "),
        ("postgres://rag@db/rag?sslmode=always", "it cannot be read"),
        ("postgres://rag:sword?fish&fin@db/rag", "it cannot be read"),
    ] {
        let line = refused("RAG_DATABASE_URL", url);
        assert!(line.starts_with(&format!("RAG_DATABASE_URL (environment): {problem}")), "{line}");
        assert!(!line.contains("fish"), "{line}");
    }
    assert!(refused("RAG_DATABASE_MAX_CONNECTIONS", "0").contains("expected a number from 1 to 1000"));
    assert!(refused("RAG_STORAGE_URL", "/srv").contains("expected file:PATH or s3://BUCKET/PREFIX"));
}

#[test]
fn language_models_form_a_chain() {
    let chain = |value: &str| {
        let place = Place::new().env("RAG_OPENAI_BASE_URL", "http://127.0.0.1:9000/v1/").env("RAG_LLM_MODEL", value);
        place.load().llm
    };
    let openai = |model: &str| {
        let base_url = "http://127.0.0.1:9000/v1".to_owned();
        llm::Config::OpenAi { model: model.to_owned(), base_url, api_key: None }
    };
    assert_eq!(
        chain("gpt-4o, openai:llama3:8b, extractive"),
        [openai("gpt-4o"), openai("llama3:8b"), llm::Config::Extractive]
    );
    assert!(refused("RAG_LLM_MODEL", "extractive,gpt-4o").contains("extractive only as the last"));
    assert!(refused("RAG_LLM_MODEL", ",").contains("expected extractive, openai:NAME"));
    assert!(refused("RAG_LLM_MODEL", "opneai:gpt-4o").contains("expected extractive, openai:NAME"));
    let line = refused("RAG_LLM_MODEL", "gpt-4o");
    assert!(
        line.starts_with("RAG_OPENAI_API_KEY (default): must be set for gpt-4o at https://api.openai.com/v1"),
        "{line}"
    );
}

#[test]
fn embeddings_and_reranking_may_be_another_servers() {
    let place = Place::new().env("RAG_RERANKER_MODEL", "none").env("RAG_OPENAI_API_KEY", "swordfish");
    let openai = |value: &str, model: &str, base_url: &str, place: Place| {
        let config = place.env("RAG_EMBEDDING_MODEL", value).load().embedding;
        let (model, base_url, api_key) = (model.to_owned(), base_url.to_owned(), Some(Secret::new("swordfish")));
        assert_eq!(config, embedding::Config::OpenAi(embedding::openai::Config { model, base_url, api_key }));
        assert!(!format!("{config:?}").contains("swordfish"));
    };
    openai("text-embedding-3-small", "text-embedding-3-small", "https://api.openai.com/v1", place);
    let place = Place::new().env("RAG_RERANKER_MODEL", "none").env("RAG_OPENAI_API_KEY", "swordfish");
    openai("openai:BAAI/bge-m3", "BAAI/bge-m3", "http://tei/v1", place.env("RAG_OPENAI_BASE_URL", "http://tei/v1/"));

    let cohere = |value: &str| Place::new().env("RAG_RERANKER_MODEL", value).env("RAG_COHERE_API_KEY", "swordfish");
    for value in ["rerank-v3.5", "cohere:rerank-v3.5"] {
        let (model, base_url) = ("rerank-v3.5".to_owned(), "https://api.cohere.com".to_owned());
        let config = rerank::cohere::Config { model, base_url, api_key: Some(Secret::new("swordfish")) };
        assert_eq!(cohere(value).load().rerank, rerank::Config::Cohere(config));
    }
    let own = Place::new().env("RAG_RERANKER_MODEL", "cohere:any").env("RAG_COHERE_BASE_URL", "http://vllm:8000");
    let rerank::Config::Cohere(own) = own.load().rerank else { panic!("not a server's") };
    assert_eq!((own.base_url.as_str(), own.api_key), ("http://vllm:8000", None));
}

#[test]
fn remote_models_that_cannot_work_are_refused() {
    let line = refused("RAG_EMBEDDING_MODEL", "text-embedding-3-small");
    let problem =
        "must be set for text-embedding-3-small at https://api.openai.com/v1; another server is RAG_OPENAI_BASE_URL";
    assert_eq!(line, format!("RAG_OPENAI_API_KEY (default): {problem}"));
    let line = refused("RAG_RERANKER_MODEL", "rerank-v3.5");
    let problem = "must be set for rerank-v3.5 at https://api.cohere.com; another server is RAG_COHERE_BASE_URL";
    assert_eq!(line, format!("RAG_COHERE_API_KEY (default): {problem}"));
    for (name, value) in [("RAG_EMBEDDING_MODEL", "openai:"), ("RAG_RERANKER_MODEL", "cohere:a b")] {
        let line = refused(name, value);
        assert!(line.starts_with(&format!("{name} (environment): expected ")) && line.contains(":NAME"), "{line}");
    }
    let line = Place::new().env("RAG_OPENAI_API_KEY", "swordfish").env("RAG_EMBEDDING_MODEL", "openai:any").refusal();
    let expected = "RAG_RERANKER_MODEL (default): late-interaction needs token vectors, which openai:any does not give";
    assert!(line.starts_with(expected) && !line.contains("swordfish"), "{line}");
}

fn single(host: &str, port: u16) -> redis::Config {
    let topology = redis::Topology::Single(redis::Node { host: host.to_owned(), port });
    redis::Config { topology, tls: false, username: None, password: None, database: None }
}

fn redis_of(url: &str) -> redis::Config {
    match Place::new().env("RAG_REDIS_URL", url).load().cache.backend {
        cache::Backend::Redis(server) => server,
        backend => panic!("{backend:?}"),
    }
}

#[test]
fn redis_is_a_server_a_cluster_or_behind_sentinels() {
    assert_eq!(redis_of("redis://cache"), single("cache", 6379));
    assert_eq!(redis_of("redis://[::1]:7000/"), single("::1", 7000));
    let secured = redis::Config {
        tls: true,
        username: Some("rag".to_owned()),
        password: Some(Secret::new("p@ss/word:1")),
        database: Some(3),
        ..single("10.0.0.1", 6380)
    };
    assert_eq!(redis_of("rediss://rag:p%40ss%2Fword%3A1@10.0.0.1:6380/3"), secured);

    let nodes = |ports: [u16; 2]| ["a", "b"].iter().zip(ports).map(|(host, port)| node(host, port)).collect();
    let cluster = redis_of("rediss-cluster://:secret@a,b:7001");
    assert_eq!(cluster.topology, redis::Topology::Cluster(nodes([6379, 7001])));
    assert!(cluster.tls && cluster.password == Some(Secret::new("secret")) && cluster.username.is_none());

    let url = "redis-sentinel://rag:one@a:1,b/2?service=main&sentinel_username=watch&sentinel_password=t%26o";
    let sentinel = redis_of(url);
    let topology = redis::Topology::Sentinel {
        nodes: nodes([1, 26379]),
        service: "main".to_owned(),
        username: Some("watch".to_owned()),
        password: Some(Secret::new("t&o")),
    };
    assert_eq!((sentinel.topology, sentinel.database), (topology, Some(2)));
    assert_eq!((sentinel.username.as_deref(), sentinel.password), (Some("rag"), Some(Secret::new("one"))));
}

fn node(host: &str, port: u16) -> redis::Node {
    redis::Node { host: host.to_owned(), port }
}

#[test]
fn originals_may_be_in_a_bucket() {
    let place = |url: &str| Place::new().env("RAG_STORAGE_URL", url);
    let bucket = |place: &Place| match place.load().blob {
        blob::Config::S3(bucket) => bucket,
        folder => panic!("{folder:?}"),
    };
    let plain = bucket(&place("s3://originals"));
    assert_eq!(
        (plain.name.as_str(), plain.prefix.as_str(), plain.endpoint, plain.region),
        ("originals", "", None, None)
    );
    assert_eq!(plain.credentials, Credentials::Role(Vec::new()));
    assert_eq!(bucket(&place("s3://a.b-3/rag/originals/")).prefix, "rag/originals");
    assert_eq!(bucket(&place(" s3://originals").env("AWS_REGION", "eu-west-1")).region.as_deref(), Some("eu-west-1"));

    let dotenv = "AWS_REGION=eu-west-1\nAWS_ACCESS_KEY_ID=other\nAWS_ENDPOINT_URL=http://minio:9000\n";
    let place_with_key = place("s3://originals")
        .file(".env", dotenv)
        .file("secret", "swordfish\n")
        .env("AWS_ENDPOINT_URL_S3", "https://s3.example.com/")
        .env("AWS_ACCESS_KEY_ID", "AKIA");
    let secret = place_with_key.path().join("secret").display().to_string();
    let place_with_key = place_with_key.env("AWS_SECRET_ACCESS_KEY_FILE", &secret).env("AWS_PAGER", "less");
    let named = bucket(&place_with_key);
    assert_eq!(named.endpoint.as_deref(), Some("https://s3.example.com"));
    assert_eq!(named.region.as_deref(), Some("eu-west-1"));
    let key = Credentials::Key { id: "AKIA".to_owned(), secret: Secret::new("swordfish"), token: None };
    assert_eq!(named.credentials, key);
    let loaded = place_with_key.try_load().unwrap();
    for text in [render(&loaded), format!("{:?}", loaded.config.blob)] {
        assert!(!text.contains("swordfish"), "{text}");
    }
    assert_eq!(place_with_key.source("AWS_REGION"), ".env");
    assert_eq!(place_with_key.source("AWS_SECRET_ACCESS_KEY"), format!("environment, {secret}"));

    let role = place("s3://originals").env("AWS_ROLE_ARN", "arn:aws:iam::1:role/rag");
    let expected = vec![(RoleVariable::RoleArn, "arn:aws:iam::1:role/rag".to_owned())];
    assert_eq!(bucket(&role).credentials, Credentials::Role(expected));

    for url in ["s3://", "s3://Bucket", "s3://b", "s3://bucket//x", "s3://bucket/../x", "s3:bucket", "s3://bucket/a b"]
    {
        assert!(refused("RAG_STORAGE_URL", url).contains("expected file:PATH or s3://BUCKET/PREFIX"), "{url}");
    }
    let line = place("s3://originals").env("AWS_ACCESS_KEY_ID", "AKIA").refusal();
    assert!(line.contains("s3:// needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither"), "{line}");
    let both = place("s3://originals").env("AWS_ACCESS_KEY_ID", "a").env("AWS_ACCESS_KEY_ID_FILE", "/nowhere");
    assert_eq!(both.refusal(), "AWS_ACCESS_KEY_ID and AWS_ACCESS_KEY_ID_FILE (environment): set one of them");
    let hidden = place("s3://originals").file(".env", "AWS_SECRET_ACCESS_KEY_FILE=/nowhere");
    bucket(&hidden.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b"));
    let line = place("s3://originals").env("AWS_ENDPOINT_URL", "minio:9000").refusal();
    assert!(line.contains("s3:// needs https://… or http://… in AWS_ENDPOINT_URL"), "{line}");
    // Who does not use S3 may have any of them.
    let line = Place::new().env("AWS_ACCESS_KEY_ID", "AKIA").env("AWS_SECRET_ACCESS_KEY_FILE", "/nowhere").load().blob;
    assert!(matches!(line, blob::Config::File { .. }));
}

#[test]
fn what_is_no_url_of_redis_is_refused_without_its_password() {
    let wrong = [
        "localhost:6379",
        "http://localhost:6379",
        "redis://",
        "redis://:swordfish@",
        "redis://:swordfish@host:port",
        "redis://:swordfish@host:0",
        "redis://:swordfish@host/db",
        "redis://:swordfish@a,b",
        "redis://:sword/fish@host",
        "redis://:swordfish@host?service=main",
        "redis-cluster://:swordfish@host/1",
        "redis-sentinel://:swordfish@host",
        "redis-sentinel://host?service=",
        "redis-sentinel://host?service=main&password=swordfish",
    ];
    for url in wrong {
        let line = refused("RAG_REDIS_URL", url);
        assert!(line.starts_with("RAG_REDIS_URL (environment): expected redis://"), "{line}");
        assert!(!line.contains("swordfish") && !line.contains("fish@"), "{line}");
    }
    let place = Place::new().file("redis-url", "rediss://:swordfish@host\n");
    let path = place.path().join("redis-url").display().to_string();
    let loaded = place.env("RAG_REDIS_URL_FILE", &path).try_load().unwrap();
    for text in [render(&loaded), format!("{:?}", loaded.config.cache), format!("{:?}", loaded.config.limit)] {
        assert!(!text.contains("swordfish"), "{text}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let line = Place::new().env("RAG_CHUNK_TOKENS", "64").env("RAG_CHUNK_OVERLAP_TOKENS", "64").refusal();
    assert_eq!(line, "RAG_CHUNK_OVERLAP_TOKENS (environment): must be less than RAG_CHUNK_TOKENS (64)");
    assert!(refused("RAG_MAX_CONTEXT_TOKENS", "100").contains("at least RAG_CHUNK_TOKENS (200)"));
    assert!(refused("RAG_METRICS_LISTEN", "127.0.0.1:8000").contains("must differ from RAG_LISTEN"));
    let no_branch = Place::new().env("RAG_RETRIEVAL_DENSE_WEIGHT", "0").env("RAG_RETRIEVAL_SPARSE_WEIGHT", "0");
    assert!(no_branch.refusal().starts_with("RAG_RETRIEVAL_DENSE_WEIGHT (environment): must be above 0"));
    let any_port = Place::new().env("RAG_LISTEN", "127.0.0.1:0").env("RAG_METRICS_LISTEN", "127.0.0.1:0");
    assert_eq!(any_port.load().http.metrics_listen.unwrap().port(), 0);
}

/// The production profile is what a cluster runs.
#[test]
fn the_production_profile_needs_its_secrets_alone() {
    let place = Place::new().profile("production").env("RAG_OPENAI_API_KEY", "key").env("RAG_ADMIN_API_KEY", ADMIN_KEY);
    let config = place.load();
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:8000");
    assert!(config.telemetry.json);
    let redis = single("localhost", 6379);
    assert_eq!(config.cache.backend, cache::Backend::Redis(redis.clone()));
    assert_eq!(config.limit.backend, limit::Backend::Redis { server: redis, replicas: 2 });
    // An empty variable unsets what a weaker source has set.
    let config = place.env("RAG_REDIS_URL", "").load();
    assert_eq!(config.cache.backend, cache::Backend::Memory { max_bytes: 64 << 20 });
    assert_eq!(config.limit.backend, limit::Backend::Memory);
    assert!(matches!(&config.llm[..], [llm::Config::OpenAi { model, .. }] if model == "gpt-4o"));
    assert!(matches!(config.rerank, rerank::Config::CrossEncoder { model: ModelSource::Hub(_), .. }));
    assert!(matches!(config.embedding, embedding::Config::OpenAi(server) if server.model == "text-embedding-3-small"));
    let line = Place::new().profile("production").refusal();
    assert!(line.starts_with("RAG_OPENAI_API_KEY (default): must be set for text-embedding-3-small"), "{line}");
}

#[test]
fn a_production_file_on_the_spot_takes_the_place_of_the_compiled_one() {
    let place = Place::new().profile("production").file("config/production.toml", "listen = \"0.0.0.0:9000\"");
    assert_eq!(place.load().http.listen.port(), 9000);
}

#[test]
fn the_models_cache_follows_the_environment() {
    let place = Place::new().env("XDG_CACHE_HOME", "/var/cache");
    assert_eq!(place.load().models.cache, Path::new("/var/cache/rag-api"));
    let place = place.env("RAG_MODELS_DIR", "/srv/models");
    assert_eq!(place.load().models.cache, Path::new("/srv/models"));
    let mut homeless = Place::new();
    homeless.environment.clear();
    assert!(homeless.refusal().starts_with("RAG_MODELS_DIR (default): must be set"));
}

#[test]
fn the_table_shows_every_setting_with_its_source() {
    let place = Place::new().file(".env", "RAG_RERANK_TOP_K=7").profile("production");
    let place = place.env("RAG_REDIS_URL", "");
    let place = place.env("RAG_OPENAI_API_KEY", "swordfish");
    let table = render(&place.try_load().unwrap());
    let line = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(&format!("{name} "))).expect("a line per setting");
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(table.starts_with("profile: production\n"));
    assert_eq!(line("RAG_RERANK_TOP_K"), ["RAG_RERANK_TOP_K", "7", ".env"]);
    assert_eq!(line("RAG_LISTEN"), ["RAG_LISTEN", "0.0.0.0:8000", "config/production.toml"]);
    assert_eq!(line("RAG_OPENAI_API_KEY"), ["RAG_OPENAI_API_KEY", "[redacted]", "environment"]);
    assert_eq!(line("RAG_REDIS_URL"), ["RAG_REDIS_URL", "-", "environment"]);
    assert_eq!(line("RAG_CACHE_TTL_SECONDS"), ["RAG_CACHE_TTL_SECONDS", "3600", "default"]);
}
