//! Generates the JavaScript glue of a module: `glue MODULE.wasm FOLDER`.

#[cfg(not(target_family = "wasm"))]
fn main() {
    use std::{env, fs, path::Path};
    use wasm_bindgen_cli_support::Bindgen;

    let mut arguments = env::args_os().skip(1);
    let (Some(module), Some(folder)) = (arguments.next(), arguments.next()) else {
        panic!("usage: glue MODULE.wasm FOLDER");
    };
    let folder = Path::new(&folder);
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).typescript(false);
    bindgen.web(true).unwrap().generate(folder).unwrap();
    // Otherwise Node treats a `.js` file as CommonJS.
    fs::write(folder.join("package.json"), r#"{"type": "module"}"#).unwrap();
}

#[cfg(target_family = "wasm")]
fn main() {}
