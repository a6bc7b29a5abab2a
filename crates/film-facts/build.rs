//! Compiles the C side against the FFmpeg of this system.

fn main() {
    println!("cargo:rerun-if-changed=src/facts.c");
    let mut build = cc::Build::new();
    build.file("src/facts.c").warnings(true);
    let mut link = Vec::new();
    for name in ["libavformat", "libavcodec", "libavutil"] {
        let library = pkg_config::Config::new()
            .cargo_metadata(false)
            .probe(name)
            .unwrap_or_else(|error| panic!("the development files of FFmpeg are missing: {error}"));
        build.includes(&library.include_paths);
        link.extend(library.link_paths.iter().map(|path| format!("cargo:rustc-link-search=native={}", path.display())));
        link.extend(library.libs.iter().map(|lib| format!("cargo:rustc-link-lib={lib}")));
    }
    build.compile("film_facts");
    for line in link {
        println!("{line}");
    }
}
