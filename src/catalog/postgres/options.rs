//! The URL of a PostgreSQL database.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

/// What a URL may say after its `?`. The driver would log any other, value and all.
const PARAMETERS: [&str; 8] =
    ["sslmode", "sslrootcert", "sslcert", "sslkey", "statement-cache-capacity", "application_name", "host", "options"];

/// Reads a URL; else what is wrong with it, without its password. What it leaves out the variables of libpq say
/// (`PGUSER`, `PGPASSWORD`, `PGSSLMODE` …), but for the server: that is never a matter of chance.
pub(in crate::catalog) fn options(url: &str) -> Result<PgConnectOptions, String> {
    // The driver's own message quotes what it cannot read, which may be the password.
    let unreadable = || {
        "it cannot be read; expected postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %XX for what is neither a letter \
         nor a digit in the password"
            .to_owned()
    };
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.contains('@') {
        return Err(unreadable());
    }
    let mut names = query.split('&').filter(|part| !part.is_empty()).map(|part| part.split('=').next().unwrap_or(part));
    if let Some(unknown) = names.clone().find(|name| !PARAMETERS.contains(name)) {
        return Err(format!("{unknown:?} is no parameter of the URL; there are {}", PARAMETERS.join(", ")));
    }
    let server = place.split('/').next().unwrap_or_default();
    let server = server.rsplit('@').next().unwrap_or_default();
    if server.split(':').next().is_none_or(str::is_empty) && !names.any(|name| name == "host") {
        return Err("it names no server; expected postgres://USER:PASSWORD@HOST:PORT/DATABASE".to_owned());
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| unreadable())?;
    let name = options.get_application_name().unwrap_or("rag-api").to_owned();
    // No column is a float, and poolers refuse what they do not know.
    Ok(options.application_name(&name).extra_float_digits(None))
}

/// The server for people: `HOST:PORT`, or the folder of its socket.
pub(super) fn server(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}
