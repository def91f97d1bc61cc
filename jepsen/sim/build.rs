//! Exports the symbols of `entropy.rs` from the binaries, so that `dlsym` finds them as well.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-rdynamic");
}
