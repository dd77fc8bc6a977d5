//! `docs/SERVING.md` shows the sources as they are.

use std::fs;
use std::path::Path;

/// What the page need not show.
const NOT_SHOWN: [&str; 2] = ["src/lib.rs", "src/session.rs"];

/// The name of the file that a line introduces: "[`name`](serving/name):".
fn introduced(line: &str) -> Option<&str> {
    let name = line.strip_prefix("[`")?.split_once('`')?.0;
    (line == format!("[`{name}`](serving/{name}):")).then_some(name)
}

/// The blocks of code of a page, each with the file that the line before it introduces.
fn blocks(page: &str) -> Vec<(Option<&str>, String)> {
    let (mut blocks, mut before) = (Vec::new(), None);
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let code = lines.by_ref().take_while(|line| !line.starts_with("```"));
            let code = code.fold(String::new(), |code, line| code + line + "\n");
            if line == "```rust" {
                blocks.push((before, code));
            }
        } else if !line.is_empty() {
            before = introduced(line);
        }
    }
    blocks
}

#[test]
fn the_page_shows_the_sources_as_they_are() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(package.join("../SERVING.md")).unwrap();
    let mut shown = Vec::new();
    for (file, code) in blocks(&page) {
        let file = file.unwrap_or_else(|| panic!("no line says of which file this is:\n{code}"));
        let source = fs::read_to_string(package.join(file)).unwrap();
        assert_eq!(
            code, source,
            "docs/SERVING.md does not show {file} as it is"
        );
        shown.push(file.to_owned());
    }
    for entry in fs::read_dir(package.join("src")).unwrap() {
        let file = format!("src/{}", entry.unwrap().file_name().into_string().unwrap());
        let is_shown = shown.contains(&file) || NOT_SHOWN.contains(&&*file);
        assert!(is_shown, "docs/SERVING.md does not show {file}");
    }
}
