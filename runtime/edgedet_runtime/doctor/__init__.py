"""The doctor: does this bundle do on this device what it did where it was exported, and if not, why?"""

from edgedet_runtime.doctor.examination import examine
from edgedet_runtime.doctor.findings import Finding, Report

__all__ = ["Finding", "Report", "examine"]
