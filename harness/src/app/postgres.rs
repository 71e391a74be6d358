//! The data of a `postgres` service: SQL that makes the role, the database and its tables, the same on each machine.
//!
//! Does not run it: whoever starts the server does, once, as superuser, with
//! `psql -v ON_ERROR_STOP=1 -d postgres -f -`.

use std::fmt::Write;

use super::spec::{AppSpec, ColumnSpec, Generator, TableSpec};

/// The role as which services connect; its authentication is `trust`.
pub const USER: &str = "app";
/// The database that holds the tables.
pub const DATABASE: &str = "app";
/// The server's `max_connections`; the pools of all callers must fit, less those that the server reserves.
pub const CONNECTION_COUNT_MAX: u32 = 50;
/// Connections that the server keeps for superusers.
pub const CONNECTION_COUNT_RESERVED: u32 = 3;

/// Digits of one md5 text, from which text values are made.
const MD5_TEXT_BYTES: u32 = 32;

/// The SQL for `service`; only role and database when it declares no tables.
///
/// `\connect` is a command of psql. Ends with `VACUUM ANALYZE`, so that the first queries find statistics and no hint bits
/// to write.
#[must_use]
pub fn seed_sql(spec: &AppSpec, service: &str) -> String {
    let mut sql =
        format!("CREATE ROLE {USER} LOGIN;\nCREATE DATABASE {DATABASE} OWNER {USER};\n\\connect {DATABASE}\n");
    let Some(service) = spec.services.get(service) else {
        return sql;
    };
    push_line(&mut sql, &format!("SET SESSION AUTHORIZATION {USER};"));
    for (name, table) in &service.tables {
        push_table(
            &mut sql,
            name,
            table,
            service.tables.keys().map(String::as_str).zip(service.tables.values()),
        );
    }
    sql.push_str("RESET SESSION AUTHORIZATION;\nVACUUM ANALYZE;\n");
    sql
}

fn push_table<'a>(
    sql: &mut String,
    name: &str,
    table: &TableSpec,
    tables: impl Iterator<Item = (&'a str, &'a TableSpec)> + Clone,
) {
    let columns: String = table
        .columns
        .iter()
        .map(|column| format!(", {} NOT NULL", definition(column)))
        .collect();
    push_line(sql, &format!("CREATE TABLE {name} (id bigint NOT NULL{columns});"));
    let values: String = table
        .columns
        .iter()
        .map(|column| {
            let row_count_of = |wanted: &str| {
                tables
                    .clone()
                    .find(|(name, _)| *name == wanted)
                    .map_or(1, |(_, table)| table.rows)
            };
            format!(", {}", value(name, column, row_count_of))
        })
        .collect();
    push_line(
        sql,
        &format!(
            "INSERT INTO {name} SELECT i{values} FROM generate_series(1, {}) AS i;",
            table.rows
        ),
    );
    // After the rows: building an index over what exists is many times faster than growing it.
    push_line(sql, &format!("ALTER TABLE {name} ADD PRIMARY KEY (id);"));
    for column in table.columns.iter().filter(|column| column.indexed) {
        push_line(sql, &format!("CREATE INDEX ON {name} ({});", column.name));
    }
}

fn definition(column: &ColumnSpec) -> String {
    let sql_type = match &column.generate {
        Generator::Uniform { .. } | Generator::Reference { .. } => "bigint",
        Generator::Text { .. } => "text",
    };
    format!("{} {sql_type}", column.name)
}

/// An expression over the row number `i`: a hash of it, seeded by the column's name, so that nothing is random.
fn value(table: &str, column: &ColumnSpec, row_count_of: impl Fn(&str) -> u32) -> String {
    let seed = column_seed(table, &column.name);
    let evenly = |first: i64, count: u64| format!("{first} + (hashint8extended(i, {seed}) & {}) % {count}", i64::MAX);
    match &column.generate {
        Generator::Uniform { min, max } => evenly(*min, max.abs_diff(*min) + 1),
        Generator::Reference { table } => evenly(1, u64::from(row_count_of(table))),
        Generator::Text { bytes } if *bytes <= MD5_TEXT_BYTES => format!("left(md5(i::text || '{seed}'), {bytes})"),
        Generator::Text { bytes } => format!(
            "(SELECT left(string_agg(md5(i::text || ':{seed}:' || k::text), '' ORDER BY k), {bytes}) \
             FROM generate_series(1, {}) AS k)",
            bytes.div_ceil(MD5_TEXT_BYTES)
        ),
    }
}

fn column_seed(table: &str, column: &str) -> u32 {
    let name = format!("{table}.{column}");
    name.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

fn push_line(sql: &mut String, line: &str) {
    writeln!(sql, "{line}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app;

    #[test]
    fn the_same_declaration_gives_the_same_sql() {
        let shop = app::load("shop").expect("a shipped app");
        let sql = seed_sql(&shop.spec, "db");
        assert_eq!(sql, seed_sql(&shop.spec, "db"));
        assert!(
            sql.contains("CREATE TABLE products (id bigint NOT NULL, category_id bigint NOT NULL"),
            "{sql}"
        );
        assert!(sql.contains("FROM generate_series(1, 2000) AS i;"), "{sql}");
        assert!(sql.ends_with("VACUUM ANALYZE;\n"), "{sql}");
    }

    #[test]
    fn columns_of_one_table_are_independent() {
        assert_ne!(
            column_seed("orders", "product_id"),
            column_seed("orders", "category_id")
        );
    }
}
