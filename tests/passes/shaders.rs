//! What naga says about every shader, and whether Rust and WGSL mean the same struct.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::collections::BTreeSet;
use tokenscope_analysis::gpu::{Kernel, Layout};
use tokenscope_analysis::passes;
use tokenscope_tests::root;

fn module(kernel: &Kernel) -> naga::Module {
    let module = naga::front::wgsl::parse_str(kernel.source)
        .unwrap_or_else(|e| panic!("{}: {}", kernel.shader, e.emit_to_string(kernel.source)));
    Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}: {}", kernel.shader, e.emit_to_string(kernel.source)));
    module
}

fn wgsl_files(folder: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for e in std::fs::read_dir(root().join(folder)).unwrap() {
        let path = e.unwrap().path();
        if path.extension().is_some_and(|e| e == "wgsl") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            out.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(!out.is_empty(), "{folder} holds no shaders");
    out
}

/// The kernels of every pass and of the window's painter, with their parameter structs.
fn kernels() -> Vec<(Kernel, Layout)> {
    passes::ALL.iter().flat_map(|p| p.kernels()).chain(tokenscope_app::heatmap::KERNELS).collect()
}

#[test]
fn every_shader_file_is_part_of_a_kernel_that_parses_and_validates() {
    let kernels: Vec<Kernel> = kernels().into_iter().map(|k| k.0).collect();
    for (name, text) in wgsl_files("shaders") {
        let own: Vec<_> = kernels.iter().filter(|k| k.shader == name).collect();
        assert!(!own.is_empty(), "shaders/{name}.wgsl belongs to no pass in ALL and not to the painter");
        assert!(own.iter().all(|k| k.source.contains(&text)), "{name} is not built from its file");
    }
    for (name, text) in wgsl_files("shaders/shared") {
        assert!(kernels.iter().any(|k| k.source.contains(&text)), "shaders/shared/{name}.wgsl is used by no kernel");
    }
    for kernel in &kernels {
        let entries: Vec<String> = module(kernel).entry_points.into_iter().map(|e| e.name).collect();
        assert!(entries.iter().any(|e| e == kernel.entry), "{}: no {} in {entries:?}", kernel.shader, kernel.entry);
    }
}

#[test]
fn every_pass_has_a_file_and_a_shader_of_its_name_and_stands_in_order() {
    let names: Vec<&str> = passes::ALL.iter().map(|p| p.name()).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    // Not passes themselves: what they share, arithmetic in single precision, and a reader of whole maps.
    let other = BTreeSet::from(["mod", "samples", "single", "attention_map"]);
    let mut files = BTreeSet::new();
    for e in std::fs::read_dir(root().join("analysis/src/passes")).unwrap() {
        let path = e.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_file() && !other.contains(stem.as_str()) {
            files.insert(stem);
        }
    }
    let painter = tokenscope_app::heatmap::KERNELS.map(|k| k.0.shader);
    let passes_only = |name: &String| !painter.contains(&name.as_str());
    let shaders: BTreeSet<String> = wgsl_files("shaders").into_iter().map(|f| f.0).filter(passes_only).collect();
    assert_eq!(files, names.iter().map(ToString::to_string).collect());
    assert_eq!(shaders, files);
    for pass in passes::ALL {
        assert!(!pass.samples().is_empty() && !pass.kernels().is_empty(), "{}", pass.name());
        assert!(pass.kernels().iter().all(|k| k.0.shader == pass.name()), "{}", pass.name());
    }
}

/// The struct of that name in WGSL: size, and per field name, type and offset.
fn wgsl_layout(kernel: &Kernel, name: &str) -> (usize, Vec<(String, String, usize)>) {
    let module = module(kernel);
    let found = module.types.iter().find(|(_, t)| t.name.as_deref() == Some(name));
    let (_, ty) = found.unwrap_or_else(|| panic!("{} has no struct {name}", kernel.shader));
    let naga::TypeInner::Struct { members, span } = &ty.inner else { panic!("{name} is no struct") };
    let field = |m: &naga::StructMember| {
        let words = match module.types[m.ty].inner {
            naga::TypeInner::Scalar(naga::Scalar { kind, width: 4 }) => match kind {
                naga::ScalarKind::Uint => "u32",
                naga::ScalarKind::Sint => "i32",
                naga::ScalarKind::Float => "f32",
                _ => "another scalar",
            },
            _ => "no word",
        };
        (m.name.clone().unwrap_or_default(), words.to_string(), m.offset as usize)
    };
    (*span as usize, members.iter().map(field).collect())
}

#[test]
fn rust_and_wgsl_mean_the_same_parameter_struct() {
    let own = |l: &Layout| -> Vec<(String, String, usize)> {
        l.fields.iter().map(|f| (f.name.to_string(), f.wgsl.to_string(), f.offset)).collect()
    };
    for (kernel, layout) in kernels() {
        let (size, fields) = wgsl_layout(&kernel, layout.name);
        assert_eq!(own(&layout), fields, "{} {}: {}", kernel.shader, kernel.entry, layout.name);
        assert_eq!(layout.size, size, "{}: size of {}", kernel.shader, layout.name);
    }
}

#[test]
fn a_field_that_only_the_shader_has_or_that_stands_elsewhere_is_noticed() {
    let read = |fields: &str| {
        let text = format!(
            "struct Params {{ {fields} }} @group(0) @binding(0) var<uniform> params: Params;
            @compute @workgroup_size(1) fn main() {{ _ = params.a; }}"
        );
        wgsl_layout(&Kernel { shader: "made up", source: text.leak(), entry: "main" }, "Params")
    };
    let plain = read("a: u32, b: f32");
    assert_eq!(plain, (8, vec![("a".into(), "u32".into(), 0), ("b".into(), "f32".into(), 4)]));
    for other in ["a: u32, b: f32, c: u32", "b: f32, a: u32", "a: u32, b: u32", "a: u32, @align(16) b: f32"] {
        assert_ne!(read(other), plain, "{other}");
    }
}
