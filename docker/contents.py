"""From `cargo metadata` on standard input to a CycloneDX 1.5 list of what the binary is made of, on standard output.

What is only needed to build or to test it is left out. Nothing in it depends on when or where it was made.
"""

import json
import sys


def main():
    metadata = json.load(sys.stdin)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]

    def within(node):
        # A dependency without a kind is part of the binary.
        return sorted(dep["pkg"] for dep in node["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"]))

    found, left = {root}, [root]
    while left:
        for one in within(nodes[left.pop()]):
            if one not in found:
                found.add(one)
                left.append(one)

    def url(package):
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(package):
        kind = "application" if package["id"] == root else "library"
        one = {"type": kind, "bom-ref": url(package), "name": package["name"], "version": package["version"]}
        if package.get("license"):
            one["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        return {**one, "purl": url(package)}

    libraries = sorted((packages[one] for one in found - {root}), key=lambda package: (package["name"], package["version"]))
    dependencies = [
        {"ref": url(packages[one]), "dependsOn": [url(packages[dep]) for dep in within(nodes[one]) if dep in found]}
        for one in sorted(found)
    ]
    json.dump(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {"component": component(packages[root])},
            "components": [component(package) for package in libraries],
            "dependencies": dependencies,
        },
        sys.stdout,
        indent=1,
    )
    print()


main()
