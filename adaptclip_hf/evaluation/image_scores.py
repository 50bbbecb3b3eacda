"""Image scores as a module of the evaluate library; a script that `evaluate.load` takes by its path."""

import datasets
import evaluate

from adaptclip_hf.evaluation import ImageMetrics

DESCRIPTION = """Figures of anomaly scores: AUROC, AP (area under straight lines between the points of precision
and recall, those of one recall by rising precision, unlike scikit-learn's auc of its precision_recall_curve),
F1max with its threshold, and Overkill@2, @5, @10, as fractions (AdaptCLIP's evaluation protocol)."""

INPUTS = """
Args:
    predictions: float32 (N,), higher is more anomalous.
    references: (N,), 0 normal or 1 anomalous.
    sample_ids: (N,), to `compute` alone: the same for all images of one object; adds `sample_*`.

Returns:
    `dict` of [`ImageMetrics.compute`].
"""


class ImageScores(evaluate.Metric):
    """[`ImageMetrics`] with evaluate's `add_batch` and `compute`, which gather over processes.

    Raises:
        ValueError: as [`ImageMetrics.update`].
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="Gao et al., AdaptCLIP: Adapting CLIP for Universal Visual Anomaly Detection, AAAI 2026",
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("float32"), "references": datasets.Value("int32")}
            ),
        )

    def _compute(self, predictions, references, sample_ids=None) -> dict[str, float]:
        metrics = ImageMetrics()
        metrics.update(predictions, references, sample_ids)
        return metrics.compute()
