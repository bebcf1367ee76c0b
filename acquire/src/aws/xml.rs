//! The XML that services answer with, as a small tree.

use quick_xml::Reader;
use quick_xml::events::Event;

/// Elements within elements, at most; AWS's answers have a dozen.
const DEEPEST: usize = 64;

/// Elements of one answer, at most: a page of 1,000 instances has some 200,000.
const MOST_ELEMENTS: usize = 1_000_000;

/// One element: its text, or what it holds.
///
/// Attributes, comments and name spaces are left out; no service says anything in them. Entities of a document type are
/// refused, so that a small answer cannot become a large one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// Reads a whole document.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::from_reader(bytes);
        reader.config_mut().expand_empty_elements = true;
        let mut open: Vec<Element> = Vec::new();
        let (mut root, mut count) = (None, 0_usize);
        loop {
            let at = reader.buffer_position();
            let fault = |what: &str| format!("{what} (at byte {at} of the answer)");
            match reader.read_event().map_err(|error| fault(&error.to_string()))? {
                Event::Start(start) => {
                    count += 1;
                    if open.len() >= DEEPEST || count > MOST_ELEMENTS || root.is_some() {
                        return Err(fault("more elements than an answer has"));
                    }
                    let name = start.local_name();
                    let name = std::str::from_utf8(name.as_ref()).map_err(|_| fault("not UTF-8"))?;
                    open.push(Element { name: name.to_owned(), ..Self::default() });
                }
                Event::End(_) => {
                    let Some(mut done) = open.pop() else { return Err(fault("an end without a start")) };
                    if !done.children.is_empty() {
                        done.text.clear();
                    }
                    match open.last_mut() {
                        Some(above) => above.children.push(done),
                        None => root = Some(done),
                    }
                }
                Event::Text(text) => {
                    let text = text.xml_content().map_err(|_| fault("not UTF-8"))?;
                    add(&mut open, &text);
                }
                Event::CData(text) => {
                    let text = text.decode().map_err(|_| fault("not UTF-8"))?;
                    add(&mut open, &text);
                }
                Event::GeneralRef(entity) => {
                    let name = entity.decode().map_err(|_| fault("not UTF-8"))?;
                    let character = entity.resolve_char_ref().map_err(|error| fault(&error.to_string()))?;
                    match (character, quick_xml::escape::resolve_xml_entity(&name)) {
                        (Some(character), _) => add(&mut open, character.encode_utf8(&mut [0; 4])),
                        (None, Some(text)) => add(&mut open, text),
                        (None, None) => return Err(fault("an entity that XML does not have")),
                    }
                }
                Event::DocType(_) => return Err(fault("a document type")),
                Event::Eof => break,
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::Empty(_) => {}
            }
        }
        match (open.is_empty(), root) {
            (true, Some(root)) => Ok(root),
            _ => Err("the answer ends early".to_owned()),
        }
    }

    /// The first child of this name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text at the end of a path of children; empty if there is none.
    pub(crate) fn at(&self, path: &[&str]) -> &str {
        let mut here = self;
        for name in path {
            match here.child(name) {
                Some(child) => here = child,
                None => return "",
            }
        }
        &here.text
    }

    /// The same, as an owned text.
    pub(crate) fn string(&self, path: &[&str]) -> String {
        self.at(path).to_owned()
    }

    /// The same, if it is there and says something.
    pub(crate) fn some(&self, path: &[&str]) -> Option<String> {
        Some(self.at(path)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// The members of a list: EC2 calls each `item`, the older services `member`.
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &Self> {
        self.child(name)
            .into_iter()
            .flat_map(|list| &list.children)
            .filter(|child| matches!(child.name.as_str(), "item" | "member"))
    }

    /// The first element of this name at any depth.
    pub(crate) fn find(&self, name: &str) -> Option<&Self> {
        if self.name == name {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(name))
    }
}

fn add(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeVolumesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <requestId>r-1</requestId>
  <volumeSet><item><volumeId>vol-1</volumeId><tagSet><item><key>Na&amp;me</key><value>a &lt;b&#x3e; <![CDATA[&c]]></value></item></tagSet></item>
  <item><volumeId>vol-2</volumeId><kmsKeyId/></item></volumeSet>
</DescribeVolumesResponse>"#;

    #[test]
    fn an_answer_is_read_with_its_lists_and_escapes() {
        let answer = Element::parse(ANSWER.as_bytes()).unwrap();
        assert_eq!(answer.at(&["requestId"]), "r-1");
        let volumes: Vec<&str> = answer.list("volumeSet").map(|volume| volume.at(&["volumeId"])).collect();
        assert_eq!(volumes, ["vol-1", "vol-2"]);
        let tag = answer.list("volumeSet").next().unwrap().list("tagSet").next().unwrap();
        assert_eq!((tag.at(&["key"]), tag.at(&["value"])), ("Na&me", "a <b> &c"));
        assert_eq!(answer.some(&["volumeSet", "kmsKeyId"]), None);
        assert_eq!(answer.find("volumeId").unwrap().text, "vol-1");
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let deep = "<a>".repeat(100_000);
        let bomb = r#"<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>"#;
        for text in [
            "",
            "   ",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a>&nbsp;</a>",
            "<a>&#0;&#x110000;</a>",
            bomb,
            &deep,
        ] {
            assert!(Element::parse(text.as_bytes()).is_err(), "{}", text.get(..20).unwrap_or(text));
        }
        assert!(Element::parse(b"<a>\xff\xfe</a>").is_err());
    }

    #[test]
    fn an_answer_that_is_cut_anywhere_is_refused_and_never_a_panic() {
        let whole = ANSWER.trim_end().as_bytes();
        for end in 0..whole.len() {
            assert!(Element::parse(whole.get(..end).unwrap()).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_make_it_panic(bytes: Vec<u8>, at in 0usize..400, with: u8) {
            let _ = Element::parse(&bytes);
            let mut answer = ANSWER.as_bytes().to_vec();
            if let Some(byte) = answer.get_mut(at) { *byte = with; }
            let _ = Element::parse(&answer);
        }
    }
}
