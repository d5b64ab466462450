-- Times are milliseconds since 1970, 0 for "never". Lists and metadata are JSON.

CREATE TABLE documents (
    tenant            TEXT    NOT NULL,
    document_id       TEXT    NOT NULL,
    owner             TEXT    NOT NULL,
    readers           TEXT    NOT NULL,
    title             TEXT    NOT NULL,
    metadata          TEXT    NOT NULL,
    access_version    INTEGER NOT NULL,
    version           INTEGER NOT NULL,
    content           TEXT    NOT NULL,
    served_version    INTEGER,
    served_content    TEXT,
    served_chunks     INTEGER,
    served_attributes TEXT,
    status            TEXT    NOT NULL,
    stage             TEXT    NOT NULL,
    progress_done     INTEGER NOT NULL,
    progress_total    INTEGER NOT NULL,
    attempts          INTEGER NOT NULL,
    failure           TEXT,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    deleted           INTEGER NOT NULL,
    needs_purge       INTEGER NOT NULL,
    needs_attributes  INTEGER NOT NULL,
    needs_cleanup     INTEGER NOT NULL,
    queued_at         INTEGER NOT NULL,
    not_before        INTEGER NOT NULL,
    stale_until       INTEGER NOT NULL,
    begun             INTEGER NOT NULL,
    setbacks          INTEGER NOT NULL,
    garbage           TEXT    NOT NULL,
    lease_token       TEXT,
    lease_work        TEXT,
    lease_until       INTEGER NOT NULL,
    lease_garbage     INTEGER NOT NULL,
    PRIMARY KEY (tenant, document_id)
) STRICT;

-- One small index per kind of work, in the order of claims.
CREATE INDEX documents_purge ON documents (queued_at) WHERE needs_purge = 1;
CREATE INDEX documents_attributes ON documents (queued_at) WHERE needs_attributes = 1;
CREATE INDEX documents_process ON documents (queued_at) WHERE status = 'processing' AND deleted = 0;
CREATE INDEX documents_cleanup ON documents (queued_at) WHERE needs_cleanup = 1;

-- Listings of one status, and counts by status.
CREATE INDEX documents_status ON documents (tenant, status, document_id) WHERE deleted = 0;

-- The readers of every document that is not deleted, the other way round, for listings.
CREATE TABLE document_readers (
    tenant       TEXT NOT NULL,
    principal    TEXT NOT NULL,
    document_id  TEXT NOT NULL,
    PRIMARY KEY (tenant, principal, document_id),
    FOREIGN KEY (tenant, document_id) REFERENCES documents (tenant, document_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX document_readers_document ON document_readers (tenant, document_id);

-- The last version of a deleted id, by hash: a version number must not come back while an old worker may live.
CREATE TABLE retired_documents (
    tenant        TEXT    NOT NULL,
    id_sha256     BLOB    NOT NULL,
    last_version  INTEGER NOT NULL,
    retired_at    INTEGER NOT NULL,
    PRIMARY KEY (tenant, id_sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX retired_documents_age ON retired_documents (retired_at);

CREATE TABLE tenants (
    tenant      TEXT    NOT NULL PRIMARY KEY,
    generation  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    id          TEXT    NOT NULL PRIMARY KEY,
    hash        BLOB    NOT NULL,
    name        TEXT    NOT NULL,
    tenant      TEXT    NOT NULL,
    user        TEXT    NOT NULL,
    groups      TEXT    NOT NULL,
    scopes      TEXT    NOT NULL,
    active      INTEGER NOT NULL,
    expires_at  INTEGER,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX api_keys_tenant ON api_keys (tenant, id);

CREATE TABLE idempotency_keys (
    tenant       TEXT    NOT NULL,
    user         TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    fingerprint  TEXT    NOT NULL,
    request      TEXT    NOT NULL UNIQUE,
    seen_at      INTEGER NOT NULL,
    PRIMARY KEY (tenant, user, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_age ON idempotency_keys (seen_at);

-- The parts of such a request whose documents are written.
CREATE TABLE idempotency_parts (
    request  TEXT    NOT NULL REFERENCES idempotency_keys (request) ON DELETE CASCADE,
    part     INTEGER NOT NULL,
    PRIMARY KEY (request, part)
) STRICT, WITHOUT ROWID;
