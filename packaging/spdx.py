#!/usr/bin/env python3
"""The software bill of materials of a release, SPDX 2.3 as JSON: spdx.py NAME VERSION COMMIT DATE < ARCHIVE.tar

Every file of the archive with its checksums; what the library and the programs link, with the licence of each.
"""
import hashlib
import json
import sys
import tarfile

# What is linked, by whom, and its licence as SPDX names it.
LINKED = [
    ("LibTorch", "2.11.0", "BSD-3-Clause", "library, programs"),
    ("CLI11", "2.1.2", "BSD-3-Clause", "programs"),
    ("nlohmann-json", "3.11.2", "MIT", "programs"),
    ("zlib", "1.2.13", "Zlib", "programs"),
    ("libjpeg-turbo", "2.1.5", "IJG AND BSD-3-Clause AND Zlib", "programs"),
    ("libpng", "1.6.39", "libpng-2.0", "programs"),
    ("coinor-libclp", "1.17.6", "EPL-1.0", "mma-tammes"),
    ("boost-math", "1.74.0", "BSL-1.0", "mma-reproduce"),
]


def package(identifier, name, version, licence, comment):
    return {"SPDXID": identifier, "name": name, "versionInfo": version, "downloadLocation": "NOASSERTION",
            "licenseConcluded": licence, "licenseDeclared": licence, "copyrightText": "NOASSERTION",
            "filesAnalyzed": False, "comment": comment}


def main():
    name, version, commit, date = sys.argv[1:5]
    files, sums = [], []
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        for member in archive:
            if not member.isfile():
                continue
            content = archive.extractfile(member).read()
            sha1, sha256 = hashlib.sha1(content).hexdigest(), hashlib.sha256(content).hexdigest()
            sums.append(sha1)
            files.append({"SPDXID": f"SPDXRef-File-{len(files) + 1}", "fileName": "./" + member.name,
                          "checksums": [{"algorithm": "SHA1", "checksumValue": sha1},
                                        {"algorithm": "SHA256", "checksumValue": sha256}],
                          "licenseConcluded": "NOASSERTION", "licenseInfoInFiles": ["NOASSERTION"],
                          "copyrightText": "NOASSERTION"})
    own = package("SPDXRef-Package-mma", "mma", version, "MIT", f"commit {commit}")
    own.update(filesAnalyzed=True, licenseInfoFromFiles=["NOASSERTION"], packageVerificationCode={
        "packageVerificationCodeValue": hashlib.sha1("".join(sorted(sums)).encode()).hexdigest()})
    linked = [package(f"SPDXRef-Linked-{k + 1}", *entry[:3], f"linked by: {entry[3]}") for k, entry in enumerate(LINKED)]
    relationships = [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                      "relatedSpdxElement": own["SPDXID"]}]
    relationships += [{"spdxElementId": own["SPDXID"], "relationshipType": "CONTAINS", "relatedSpdxElement": f["SPDXID"]}
                      for f in files]
    relationships += [{"spdxElementId": own["SPDXID"], "relationshipType": "DYNAMIC_LINK",
                       "relatedSpdxElement": p["SPDXID"]} for p in linked]
    document = {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": name,
                "documentNamespace": f"https://spdx.org/spdxdocs/{name}-{commit}",
                "creationInfo": {"created": date, "creators": ["Tool: mma/packaging/spdx.py"]},
                "packages": [own] + linked, "files": files, "relationships": relationships}
    json.dump(document, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
