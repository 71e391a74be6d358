//! Tables that can be read aloud: each has a caption, each cell belongs to a heading.

use std::fmt::Write as _;

use super::super::text::markup;

/// How a cell looks; its text says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
    /// Says nothing about the detector.
    Quiet,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => " class=\"good\"",
            Self::Bad => " class=\"bad\"",
            Self::Quiet => " class=\"quiet\"",
        }
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
    /// What the cell says to those who look closer.
    title: String,
}

impl Cell {
    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
            title: String::new(),
        }
    }

    pub(super) fn titled(self, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            ..self
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// A table whose first cell of each row is that row's heading. Nothing without rows.
pub(super) fn table(caption: &str, head: &[&str], rows: &[Vec<Cell>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut html = format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\"><table><caption>{0}</caption>",
        markup(caption)
    );
    if !head.is_empty() {
        html.push_str("<thead><tr>");
        for name in head {
            let _ = write!(html, "<th scope=\"col\">{}</th>", markup(name));
        }
        html.push_str("</tr></thead>");
    }
    html.push_str("<tbody>");
    for row in rows {
        html.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let title = match cell.title.as_str() {
                "" => String::new(),
                title => format!(" title=\"{}\"", markup(title)),
            };
            let (class, text) = (cell.tone.class(), markup(&cell.text));
            let _ = match index {
                0 => write!(html, "<th scope=\"row\"{class}{title}>{text}</th>"),
                _ => write!(html, "<td{class}{title}>{text}</td>"),
            };
        }
        html.push_str("</tr>");
    }
    html + "</tbody></table></div>"
}

/// Names and values.
pub(super) fn pairs(caption: &str, pairs: &[(String, String)]) -> String {
    let rows: Vec<Vec<Cell>> = pairs
        .iter()
        .map(|(name, value)| vec![name.as_str().into(), value.as_str().into()])
        .collect();
    table(caption, &[], &rows)
}
