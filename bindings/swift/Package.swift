// swift-tools-version:5.7
import PackageDescription

let package = Package(
    name: "Sparrow",
    platforms: [.iOS(.v13)],
    products: [.library(name: "Sparrow", targets: ["Sparrow"])],
    targets: [
        // `cargo xtask xcframework` makes it.
        .binaryTarget(name: "CSparrow", path: "CSparrow.xcframework"),
        .target(name: "Sparrow", dependencies: ["CSparrow"]),
        .testTarget(name: "SparrowTests", dependencies: ["Sparrow"]),
    ]
)
