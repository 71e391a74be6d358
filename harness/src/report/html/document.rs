//! The frame of every page: head, way around by keyboard, sections, style.

use std::fmt::Write as _;

use super::super::text::markup;

const STYLE: &str = include_str!("style.css");

/// What wrong, right and unknown look like without colour: fills that drawings share.
const PATTERNS: &str = "<svg class=\"patterns\" width=\"0\" height=\"0\" aria-hidden=\"true\" focusable=\"false\"><defs>\
    <pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
    <rect class=\"hatch-ground\" width=\"6\" height=\"6\"/><line class=\"hatch-line\" x1=\"0\" y1=\"0\" x2=\"0\" y2=\"6\"/></pattern>\
    <marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\" \
    markerUnits=\"userSpaceOnUse\"><path class=\"arrow-head\" d=\"M0 0L8 4L0 8z\"/></marker></defs></svg>";

/// One section of a page.
pub(super) struct Section {
    /// Where links lead.
    pub id: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// Its content, as HTML.
    pub body: String,
}

/// The page: `title` is text, `header` is HTML.
pub(super) fn document(title: &str, header: &str, sections: &[Section]) -> String {
    let mut html = String::with_capacity(64 * 1024);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title><style>{STYLE}</style></head>\
         <body><a class=\"skip\" href=\"#content\">Skip to the content</a>{PATTERNS}<header class=\"top\">{header}</header>\
         <nav aria-label=\"Sections\"><ul>",
        markup(title),
    );
    for section in sections {
        let _ = write!(
            html,
            "<li><a href=\"#{}\">{}</a></li>",
            section.id,
            markup(section.title)
        );
    }
    html.push_str("</ul></nav><main id=\"content\" tabindex=\"-1\">");
    for section in sections {
        let _ = write!(
            html,
            "<section id=\"{0}\" aria-labelledby=\"{0}-title\"><h2 id=\"{0}-title\">{1}</h2>{2}</section>",
            section.id,
            markup(section.title),
            section.body,
        );
    }
    html.push_str("</main></body></html>\n");
    html
}

/// A drawing that keeps its letters readable: on a narrow screen it scrolls, by keyboard too.
pub(super) fn drawing(name: &str, description: &str, width: f64, height: f64, content: &str) -> String {
    format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\">\
         <svg role=\"img\" viewBox=\"0 0 {width:.0} {height:.0}\" style=\"min-width:{1:.0}px;max-width:{2:.0}px\" aria-label=\"{0}. {3}\">\
         {content}</svg></div>",
        markup(name),
        width * 0.7,
        width * 1.1,
        markup(description),
    )
}

/// More, for those who ask for it.
pub(super) fn details(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary>{body}</details>", markup(summary))
}

/// The verdict and its reason, first thing to be read.
pub(super) fn verdict(name: &str, sign: &str, reason: &str) -> String {
    format!(
        "<p class=\"verdict {}\"><strong><span aria-hidden=\"true\">{sign}</span> {}</strong> <span>{}</span></p>",
        markup(&name.to_lowercase()),
        markup(name),
        markup(reason),
    )
}

/// Figures that matter most.
pub(super) fn tiles(tiles: &[(String, String)]) -> String {
    let mut html = String::from("<dl class=\"tiles\">");
    for (name, value) in tiles {
        let _ = write!(html, "<div><dt>{}</dt><dd>{}</dd></div>", markup(name), markup(value));
    }
    html + "</dl>"
}
