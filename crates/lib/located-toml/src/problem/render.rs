//! Renders a problem for people: the line of the file, a caret under the value, and the next step.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use crate::problem::{ConfigProblem, Document, Excerpt, Location, RenderStyle, Severity};

impl ConfigProblem {
    /// This problem with its line, a caret and a next step; with ANSI colours where asked.
    pub fn render(&self, style: RenderStyle) -> String {
        let renderer = match style {
            RenderStyle::Plain => Renderer::plain(),
            RenderStyle::Coloured => Renderer::styled(),
        };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let excerpt = match (&self.location, self.excerpt) {
            (Location::Text { document, span }, Excerpt::Shown) if !self.location.is_built_in() => {
                Some((document, span))
            }
            _ => None,
        };
        let title = if excerpt.is_some() { self.message.clone() } else { self.to_string() };
        let mut group = Group::with_title(level.primary_title(title));
        if let Some((document, span)) = excerpt {
            let primary = AnnotationKind::Primary.span(first_line(document, span));
            let snippet = Snippet::source(&*document.text).path(&document.name).annotation(primary);
            group = group.element(snippet.annotations(self.related_annotation(document)));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.decor_style(DecorStyle::Ascii).render(&[group])
    }

    /// The other place that belongs to the problem, if it is in the same text.
    fn related_annotation(&self, document: &Document) -> Option<Annotation<'_>> {
        match &self.related {
            Some((Location::Text { document: other, span }, what)) if **other == *document => {
                Some(AnnotationKind::Context.span(first_line(document, span)).label(what))
            }
            _ => None,
        }
    }
}

/// The part of a span on its first line: a caret under a whole table says less than one under its head.
fn first_line(document: &Document, span: &Range<usize>) -> Range<usize> {
    let text = document.text.get(span.clone()).unwrap_or_default();
    let length = text.find('\n').unwrap_or(text.len());
    span.start..span.start + length
}
