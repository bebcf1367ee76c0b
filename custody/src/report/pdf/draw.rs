//! Pages written out: glyphs and rectangles, each either under a mark of structure or set aside.

use std::num::NonZeroU16;

use krilla::annotation::{Annotation, LinkAnnotation, Target};
use krilla::color::rgb;
use krilla::destination::{NamedDestination, XyzDestination};
use krilla::geom::{PathBuilder, Point, Rect};
use krilla::num::NormalizedF32;
use krilla::page::PageSettings;
use krilla::paint::Fill;
use krilla::surface::Surface;
use krilla::tagging::{
    Artifact, ArtifactType, ContentTag, Identifier, ListNumbering, Node, TableHeaderScope, Tag, TagGroup,
    TagKind, TagTree,
};
use krilla::text::{GlyphId, KrillaGlyph};

use super::fonts::{Face, Fonts};
use super::lines::cut_to;
use super::page::{BOTTOM, HEIGHT, LEFT, Link, MEASURE, Mark, Op, Place, RIGHT, WIDTH};
use super::text::{GREY, Ink, Line, PALE, Run, Setting, named};
use crate::error::{Error, Result};
use crate::report::document::Foot;

const FOOT: Setting = Setting::new(Face::Regular, 7.0, 9.6, GREY);
/// The longest text for those who cannot see, in characters: PDF/A takes strings of 32,767 bytes.
const LONGEST: usize = 2000;

/// The point that a link to a part goes to.
pub(super) fn destination(place: &Place) -> XyzDestination {
    XyzDestination::new(place.page, Point::from_xy(LEFT, (place.y - 12.0).max(0.0)))
}

/// Writes the pages; gives their structure.
pub(super) fn pages(
    document: &mut krilla::Document,
    fonts: &Fonts,
    pages: Vec<Vec<Op>>,
    parts: &[Place],
    foot: &Foot,
) -> Result<TagTree> {
    let count = pages.len();
    let mut structure = Structure { roots: TagTree::new(), open: Vec::new() };
    for (index, operations) in pages.into_iter().enumerate() {
        let settings = PageSettings::from_wh(WIDTH, HEIGHT);
        let settings = settings.ok_or_else(|| Error::malformed("page", "it has no area"))?;
        let mut page = document.start_page_with(settings);
        let mut links = Vec::new();
        for operation in &operations {
            if let Op::Open(Mark::Link(link)) = operation
                && let Some(annotation) = annotation(link, parts)
            {
                links.push(page.add_tagged_annotation(annotation));
            }
        }
        let pen = Pen { fonts, surface: page.surface(), state: State::Nothing };
        pen.page(operations, &mut structure, &mut links.into_iter(), |pen| pen.foot(foot, index + 1, count));
    }
    Ok(structure.roots)
}

fn annotation(link: &Link, parts: &[Place]) -> Option<Annotation> {
    let [x, y, width, height] = link.area;
    // Named, so that others can point to a part, as `report.pdf#part-3`.
    let named_place =
        NamedDestination::new(format!("part-{}", link.part + 1), destination(parts.get(link.part)?));
    let target = Target::Destination(named_place.into());
    let area = Rect::from_xywh(x, y, width, height)?;
    Some(Annotation::new_link(LinkAnnotation::new(area, target), Some(named(&link.words, LONGEST))))
}

/// The structure as it grows; it runs on over the pages.
struct Structure {
    roots: TagTree,
    /// What is open, outermost first; `None` is set aside, with all within it.
    open: Vec<Option<TagGroup>>,
}

impl Structure {
    fn open(&mut self, mark: &Mark) {
        let aside = self.is_aside() || *mark == Mark::Aside;
        self.open.push(if aside { None } else { Some(TagGroup::new(tag(mark))) });
    }

    fn close(&mut self, links: &mut impl Iterator<Item = Identifier>) {
        let Some(Some(mut group)) = self.open.pop() else {
            return;
        };
        if matches!(group.tag, TagKind::Link(_))
            && let Some(link) = links.next()
        {
            group.push(link);
        }
        match self.open.last_mut() {
            Some(Some(parent)) => parent.push(Node::Group(group)),
            _ => self.roots.push(Node::Group(group)),
        }
    }

    fn is_aside(&self) -> bool {
        matches!(self.open.last(), Some(None))
    }

    fn innermost(&mut self) -> Option<&mut TagGroup> {
        self.open.last_mut().and_then(Option::as_mut)
    }
}

fn tag(mark: &Mark) -> TagKind {
    let words = |text: &str| Some(named(text, LONGEST)).filter(|text| !text.is_empty());
    match mark {
        Mark::Title => Tag::Title.into(),
        Mark::Section => Tag::Section.into(),
        Mark::Heading(level, text) => {
            Tag::Hn(NonZeroU16::new(*level).unwrap_or(NonZeroU16::MIN), words(text)).into()
        }
        Mark::Paragraph => Tag::P.into(),
        // What is set aside has no tag; it never comes here.
        Mark::Group | Mark::Aside => Tag::Div.into(),
        Mark::List => Tag::L(ListNumbering::Disc).into(),
        Mark::Item => Tag::LI.into(),
        Mark::ItemSign => Tag::Lbl.into(),
        Mark::ItemBody => Tag::LBody.into(),
        Mark::Table(summary) => Tag::Table.with_summary(words(summary)).into(),
        Mark::Caption => Tag::Caption.into(),
        Mark::TableHead => Tag::THead.into(),
        Mark::TableBody => Tag::TBody.into(),
        Mark::Row => Tag::TR.into(),
        Mark::ColumnHead => Tag::TH(TableHeaderScope::Column).into(),
        Mark::RowHead => Tag::TH(TableHeaderScope::Row).into(),
        Mark::Cell => Tag::TD.into(),
        Mark::Figure(alternative) => Tag::Figure(words(alternative)).into(),
        Mark::Code(text) => {
            let whole = text.chars().count() <= LONGEST;
            Tag::Code.with_actual_text(whole.then(|| text.clone())).into()
        }
        Mark::Contents => Tag::TOC.into(),
        Mark::ContentsItem => Tag::TOCI.into(),
        Mark::Link(_) => Tag::Link.into(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Nothing,
    Content,
    Aside,
}

/// Draws on one page.
struct Pen<'a> {
    fonts: &'a Fonts,
    surface: Surface<'a>,
    state: State,
}

impl Pen<'_> {
    fn page(
        mut self,
        operations: Vec<Op>,
        structure: &mut Structure,
        links: &mut impl Iterator<Item = Identifier>,
        foot: impl FnOnce(&mut Self),
    ) {
        for operation in operations {
            match operation {
                Op::Open(mark) => {
                    self.end();
                    structure.open(&mark);
                }
                Op::Close => {
                    self.end();
                    structure.close(links);
                }
                Op::Text { x, y, run } => {
                    self.under(structure, false);
                    self.text(x, y, &run);
                }
                Op::Fill { boxes, ink } => {
                    self.under(structure, true);
                    self.boxes(&boxes, ink);
                }
            }
        }
        self.end();
        foot(&mut self);
        self.surface.finish();
    }

    /// What is drawn next stands under the innermost mark, or aside; rectangles are content in pictures only.
    fn under(&mut self, structure: &mut Structure, is_shape: bool) {
        let group = structure.innermost();
        let content = group.filter(|group| !is_shape || matches!(group.tag, TagKind::Figure(_)));
        let state = if content.is_some() { State::Content } else { State::Aside };
        if state == self.state {
            return;
        }
        self.end();
        self.state = state;
        match content {
            Some(group) => group.push(self.surface.start_tagged(ContentTag::Other)),
            None => self.aside(ArtifactType::Layout),
        }
    }

    fn aside(&mut self, kind: ArtifactType) {
        self.state = State::Aside;
        // It has no place in the structure, so its identifier is of no use.
        let _ = self.surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(kind)));
    }

    fn end(&mut self) {
        if self.state != State::Nothing {
            self.surface.end_tagged();
        }
        self.state = State::Nothing;
    }

    fn ink(&mut self, ink: Ink) {
        let [red, green, blue] = ink;
        let paint = rgb::Color::new(red, green, blue).into();
        self.surface.set_fill(Some(Fill { paint, opacity: NormalizedF32::ONE, rule: Default::default() }));
    }

    fn text(&mut self, x: f32, y: f32, run: &Run) {
        let mut glyphs = Vec::with_capacity(run.text.len());
        for (at, character) in run.text.char_indices() {
            if let Some(glyph) = self.fonts.glyph(run.look.face, character) {
                let range = at..at + character.len_utf8();
                let id = GlyphId::new(u32::from(glyph.id));
                glyphs.push(KrillaGlyph::new(id, glyph.advance(), 0.0, 0.0, 0.0, range, None));
            }
        }
        self.ink(run.look.ink);
        let font = self.fonts.font(run.look.face);
        self.surface.draw_glyphs(Point::from_xy(x, y), &glyphs, font, &run.text, run.look.size, false);
    }

    fn boxes(&mut self, boxes: &[[f32; 4]], ink: Ink) {
        let mut path = PathBuilder::new();
        for [x, y, width, height] in boxes {
            if let Some(area) = Rect::from_xywh(*x, *y, *width, *height) {
                path.push_rect(area);
            }
        }
        if let Some(path) = path.finish() {
            self.ink(ink);
            self.surface.draw_path(&path);
        }
    }

    /// Case, exhibits, report, checkpoint, page.
    fn foot(&mut self, foot: &Foot, page: usize, pages: usize) {
        self.aside(ArtifactType::Footer);
        let top = BOTTOM + 16.0;
        self.boxes(&[[LEFT, top - 4.0, MEASURE, 0.5]], PALE);
        let number = cut_to(self.fonts, &format!("Page {page} of {pages}"), &FOOT, 90.0);
        let exhibits = match foot.exhibits.as_str() {
            "" => String::new(),
            exhibits => format!(" · exhibits {exhibits}"),
        };
        let first = cut_to(self.fonts, &format!("Case: {}{exhibits} ", foot.case), &FOOT, MEASURE - 90.0);
        // A receipt has no report behind it, and so no number.
        let numbered = foot.report_id.chars().all(|digit| digit.is_ascii_hexdigit());
        let what = if numbered { "Report " } else { "" };
        let second = format!("{what}{} · checkpoint {}", foot.report_id, foot.checkpoint);
        let second = cut_to(self.fonts, &second, &FOOT, MEASURE);
        let right = RIGHT - number.width;
        self.line(LEFT, top, first);
        self.line(right, top, number);
        self.line(LEFT, top + FOOT.leading, second);
        self.end();
    }

    fn line(&mut self, x: f32, top: f32, line: Line) {
        for run in line.runs {
            self.text(x + run.x, top + FOOT.baseline(), &run);
        }
    }
}
