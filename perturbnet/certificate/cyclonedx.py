"""A certificate's numbers as a CycloneDX 1.6 bill of materials with one machine-learning model and its card.

The document points at the certificate by digest and proves nothing by itself: it is not signed, so it is made
from a certificate each time, and the same certificate gives the same bytes.

Source: cyclonedx.org/docs/1.6/json (modelCard), ECMA-424.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from perturbnet.certificate.envelope import PAYLOAD_TYPE, Certificate
from perturbnet.certificate.predicate import PREDICATE_TYPE, Configuration
from perturbnet.statistics.robustness import Rate

SPEC_VERSION = "1.6"


def render_model_card(certificate: Certificate) -> bytes:
    """The document, UTF-8 JSON with a newline at its end."""
    issued = datetime.fromtimestamp(certificate.predicate.issued_ms // 1000, UTC)
    document = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'{PREDICATE_TYPE}:{certificate.digest}')}",
        "version": 1,
        "metadata": {
            "timestamp": issued.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tools": {"components": [{"type": "application", "name": certificate.predicate.issued_with}]},
        },
        "components": [_model(certificate), *map(_dataset, _datasets(certificate))],
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _model(certificate: Certificate) -> dict[str, Any]:
    evidence = certificate.predicate.evidence
    datasets = [{"ref": item.dataset_ref} for item in _datasets(certificate)]
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{evidence.model.digest}",
        "name": evidence.model.name,
        "hashes": [{"alg": "SHA-256", "content": evidence.model.digest}],
        "modelCard": {
            "modelParameters": {"task": "image classification", "datasets": datasets},
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(certificate))},
            "considerations": _considerations(certificate),
        },
        "externalReferences": [
            {
                "type": "attestation",
                "url": f"urn:sha256:{certificate.digest}",
                "comment": f"DSSE envelope of {PAYLOAD_TYPE}, {PREDICATE_TYPE}; `perturb certificate verify`",
                "hashes": [{"alg": "SHA-256", "content": certificate.digest}],
            }
        ],
        "properties": list(_properties(certificate)),
    }


def _metrics(certificate: Certificate) -> list[dict[str, Any]]:
    statistics = certificate.predicate.statistics
    rates = {
        "prediction stability under attack": statistics.stability,
        "clean accuracy": statistics.clean_accuracy,
        "robust accuracy": statistics.robust_accuracy,
    }
    return [
        _metric(name, rate, kind)
        for name, rate in rates.items()
        if rate.trials
        for kind in ("exact", "anytime")
    ]


def _metric(name: str, rate: Rate, kind: str) -> dict[str, Any]:
    interval = rate.exact if kind == "exact" else rate.anytime
    return {
        "type": name,
        "value": rate.share,
        "slice": f"{rate.successes} of {rate.trials} images; {interval.method}, level {interval.level}",
        "confidenceInterval": {"lowerBound": interval.lower, "upperBound": interval.upper},
    }


def _considerations(certificate: Certificate) -> dict[str, Any]:
    predicate = certificate.predicate
    return {
        "useCases": [predicate.evidence.threat_model.summary],
        "technicalLimitations": predicate.caveats,
        "ethicalConsiderations": [
            {"name": f"{item['framework']}: {item['reference']}", "mitigationStrategy": item["evidence"]}
            for item in predicate.mappings
        ],
    }


def _properties(certificate: Certificate) -> list[dict[str, str]]:
    predicate, statistics = certificate.predicate, certificate.predicate.statistics
    values: dict[str, object] = {
        "log": predicate.log.origin,
        "root": predicate.log.root,
        "leaves": f"{statistics.since} to before {statistics.until}",
        "blocks": f"{statistics.first_block} to {statistics.last_block}",
        "rounds": statistics.rounds,
        "images": statistics.images,
        "attempts": statistics.attempts,
        "miners": statistics.miners,
        "timeouts": statistics.timeouts,
        "rounds_without_an_image": statistics.rounds_without_an_image,
        **{f"excluded:{reason}": rounds for reason, rounds in statistics.excluded.items()},
        "reproducible": str(predicate.evidence.model.reproducible).lower(),
    }
    return [{"name": f"perturb:{name}", "value": str(value)} for name, value in values.items()]


class _Dataset:
    """A data set of the configurations, once."""

    def __init__(self, item: Configuration) -> None:
        self.values = item.dataset
        self.dataset_ref = f"data:{item.dataset.get('manifest_digest', '')}"


def _datasets(certificate: Certificate) -> list[_Dataset]:
    found = {
        _Dataset(item).dataset_ref: _Dataset(item) for item in certificate.predicate.evidence.configurations
    }
    return [found[ref] for ref in sorted(found)]


def _dataset(item: _Dataset) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": item.dataset_ref,
        "name": str(item.values.get("repository", "")),
        "version": str(item.values.get("revision", "")),
        "data": [{"type": "dataset", "name": f"{item.values.get('split')}, {item.values.get('rows')} rows"}],
    }
