-- Times are milliseconds since 1970, 0 for "never". Lists and metadata are JSON in text, and so are the texts that
-- people choose, because PostgreSQL's text and jsonb have no NUL. Collation "C": ids sort by their bytes everywhere.

CREATE TABLE documents (
    tenant            TEXT    COLLATE "C" NOT NULL,
    document_id       TEXT    COLLATE "C" NOT NULL,
    owner             TEXT    NOT NULL,
    readers           TEXT    NOT NULL,
    title             TEXT    NOT NULL,
    metadata          TEXT    NOT NULL,
    access_version    BIGINT  NOT NULL,
    version           BIGINT  NOT NULL,
    content           TEXT    NOT NULL,
    served_version    BIGINT,
    served_content    TEXT,
    served_chunks     BIGINT,
    served_attributes TEXT,
    status            TEXT    COLLATE "C" NOT NULL,
    stage             TEXT    NOT NULL,
    progress_done     BIGINT  NOT NULL,
    progress_total    BIGINT  NOT NULL,
    attempts          BIGINT  NOT NULL,
    failure           TEXT,
    created_at        BIGINT  NOT NULL,
    updated_at        BIGINT  NOT NULL,
    deleted           BOOLEAN NOT NULL,
    needs_purge       BOOLEAN NOT NULL,
    needs_attributes  BOOLEAN NOT NULL,
    needs_cleanup     BOOLEAN NOT NULL,
    queued_at         BIGINT  NOT NULL,
    not_before        BIGINT  NOT NULL,
    stale_until       BIGINT  NOT NULL,
    begun             BIGINT  NOT NULL,
    setbacks          BIGINT  NOT NULL,
    garbage           TEXT    NOT NULL,
    lease_token       TEXT,
    lease_work        TEXT,
    lease_until       BIGINT  NOT NULL,
    lease_garbage     BIGINT  NOT NULL,
    PRIMARY KEY (tenant, document_id)
);

-- One small index per kind of work, in the order of claims.
CREATE INDEX documents_purge ON documents (queued_at) WHERE needs_purge;
CREATE INDEX documents_attributes ON documents (queued_at) WHERE needs_attributes;
CREATE INDEX documents_process ON documents (queued_at) WHERE status = 'processing' AND NOT deleted;
CREATE INDEX documents_cleanup ON documents (queued_at) WHERE needs_cleanup;

-- Listings of one status, and counts by status.
CREATE INDEX documents_status ON documents (tenant, status, document_id) WHERE NOT deleted;

-- The readers of every document that is not deleted, the other way round, for listings.
CREATE TABLE document_readers (
    tenant       TEXT COLLATE "C" NOT NULL,
    principal    TEXT COLLATE "C" NOT NULL,
    document_id  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, principal, document_id),
    FOREIGN KEY (tenant, document_id) REFERENCES documents (tenant, document_id) ON DELETE CASCADE
);
CREATE INDEX document_readers_document ON document_readers (tenant, document_id);

-- The last version of a deleted id, by hash: a version number must not come back while an old worker may live.
CREATE TABLE retired_documents (
    tenant        TEXT   COLLATE "C" NOT NULL,
    id_sha256     BYTEA  NOT NULL,
    last_version  BIGINT NOT NULL,
    retired_at    BIGINT NOT NULL,
    PRIMARY KEY (tenant, id_sha256)
);
CREATE INDEX retired_documents_age ON retired_documents (retired_at);

-- Each change of what a tenant's questions may see updates its row: room on the page keeps that cheap.
CREATE TABLE tenants (
    tenant      TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    generation  BIGINT NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE api_keys (
    id          TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
    hash        BYTEA   NOT NULL,
    name        TEXT    NOT NULL,
    tenant      TEXT    COLLATE "C" NOT NULL,
    "user"      TEXT    NOT NULL,
    "groups"    TEXT    NOT NULL,
    scopes      TEXT    NOT NULL,
    active      BOOLEAN NOT NULL,
    expires_at  BIGINT,
    created_at  BIGINT  NOT NULL
);
CREATE UNIQUE INDEX api_keys_tenant ON api_keys (tenant, id);

CREATE TABLE idempotency_keys (
    tenant       TEXT   COLLATE "C" NOT NULL,
    "user"       TEXT   COLLATE "C" NOT NULL,
    key          TEXT   COLLATE "C" NOT NULL,
    fingerprint  TEXT   NOT NULL,
    request      TEXT   COLLATE "C" NOT NULL UNIQUE,
    seen_at      BIGINT NOT NULL,
    PRIMARY KEY (tenant, "user", key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (seen_at);

-- The parts of such a request whose documents are written.
CREATE TABLE idempotency_parts (
    request  TEXT   COLLATE "C" NOT NULL REFERENCES idempotency_keys (request) ON DELETE CASCADE,
    part     BIGINT NOT NULL,
    PRIMARY KEY (request, part)
);
