"""Models from elsewhere into the registry: from a Hugging Face hub, a folder, a GGUF file, an S3 prefix."""

from raymart_marketplace.catalog.importing.importer import Imported, Importer, ImportProgress
from raymart_marketplace.catalog.importing.opening import SourceSettings, open_source
from raymart_marketplace.catalog.importing.plan import ImportPlan
from raymart_marketplace.catalog.importing.sources import Source, SourceFile

__all__ = [
    "ImportPlan",
    "ImportProgress",
    "Imported",
    "Importer",
    "Source",
    "SourceFile",
    "SourceSettings",
    "open_source",
]
