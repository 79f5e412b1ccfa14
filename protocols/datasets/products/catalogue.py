"""The furniture catalogues that the products are taken from: what is in them, and who made it."""

from __future__ import annotations

import html
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from protocols.errors import DataError

INDEX = "PluginFurnitureCatalog.properties"
SCOPIA = (
    "Emmanuel PUYBARET / eTeks <info@eteks.com> and Scopia Visual Interfaces Systems, s.l. "
    "(http://www.scopia.es)"
)


@dataclass(frozen=True)
class Library:
    """One catalogue file.

    Attributes:
        licence: its SPDX identifier.
        address: of the licence's text.
        credit: whom its licence file asks to name, where it asks for all of it at once.
        notice: the copyright that its licence file states.
    """

    licence: str
    address: str
    credit: str = ""
    notice: str = ""


LIBRARIES = {
    "BlendSwap-CC-0": Library("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "BlendSwap-CC-BY": Library("CC-BY-3.0", "https://creativecommons.org/licenses/by/3.0/"),
    "KatorLegaz": Library(
        "CC-BY-3.0-US",
        "https://creativecommons.org/licenses/by/3.0/us/",
        "Andrew Kator & Jennifer Legaz",
        "(C) Copyright Andrew Kator & Jennifer Legaz",
    ),
    "Scopia": Library(
        "CC-BY-3.0",
        "https://creativecommons.org/licenses/by/3.0/",
        SCOPIA,
        f"(C) Copyrights 2014-2020 {SCOPIA} for the icons and 265 of the models; "
        "(C) Copyrights 2006-2020 Scopia Visual Interfaces Systems, s.l. (http://www.scopia.es) "
        "for all the other models",
    ),
}
# What is left out of them, and why.
LEFT_OUT = {
    "banknotes": ("Scopia/billet-10-euros", "Scopia/billet-20-euros", "Scopia/billet-50-euros"),
    "goods that show or imitate a maker's, by mark, shape or title": (
        "BlendSwap-CC-0/bedWithTexture",
        "BlendSwap-CC-0/bedsideTable2",
        "BlendSwap-CC-0/coffeeBrewer",
        "BlendSwap-CC-0/designChair",
        "BlendSwap-CC-0/doubleOven",
        "BlendSwap-CC-0/iphone",
        "BlendSwap-CC-0/kitchenaid",
        "BlendSwap-CC-0/led_tv",
        "BlendSwap-CC-0/motorbike",
        "BlendSwap-CC-0/osakaChair",
        "BlendSwap-CC-0/oven",
        "BlendSwap-CC-0/peterbilt",
        "BlendSwap-CC-0/relaxChair",
        "BlendSwap-CC-0/shelves",
        "BlendSwap-CC-0/silla2",
        "BlendSwap-CC-0/sillaBlanca",
        "BlendSwap-CC-0/speaker2",
        "BlendSwap-CC-0/speaker3",
        "BlendSwap-CC-0/tetrapak",
        "BlendSwap-CC-0/thonet",
        "BlendSwap-CC-0/verticalShelves",
        "BlendSwap-CC-0/wardrobeWithSlidingDoors",
        "BlendSwap-CC-BY/armChair2",
        "BlendSwap-CC-BY/childChair",
        "BlendSwap-CC-BY/dafTruck",
        "BlendSwap-CC-BY/fordFocus",
        "BlendSwap-CC-BY/mobile",
        "BlendSwap-CC-BY/rubix2",
        "KatorLegaz/VW-new-beetle",
        "KatorLegaz/apple-ibook-2001",
        "KatorLegaz/apple-imac-1998",
        "KatorLegaz/chair-ottoman",
        "KatorLegaz/red-wine-bottle-01",
        "KatorLegaz/scooter",
        "Scopia/apple_pc",
        "Scopia/basic_camera",
        "Scopia/chevrolet",
        "Scopia/dvd",
        "Scopia/external-unity-air-conditioning",
        "Scopia/flipper",
        "Scopia/inkjet_and_scanner_printer",
        "Scopia/internal-unity-air-conditioning",
        "Scopia/mini_stereo",
        "Scopia/modern_armchair",
        "Scopia/mp3_base_for_ipad",
        "Scopia/peugeot-308",
        "Scopia/playstation4",
        "Scopia/ps4-joystick",
        "Scopia/reflex_camera",
        "Scopia/renault-scenic",
        "Scopia/scooter2",
        "Scopia/seat_leon",
        "Scopia/smart-car",
        "Scopia/sneakers",
        "Scopia/stereo_amplifier",
        "Scopia/suv",
        "Scopia/truck",
        "Scopia/tv",
        "Scopia/van",
        "Scopia/wall-flat-tv",
        "Scopia/yamaha-yzr-r6",
    ),
    "people, who are no goods": (
        "KatorLegaz/female-01-casual-clothing",
        "KatorLegaz/male-01-suit",
        "Scopia/mannequinBrunette",
        "Scopia/mannequinMale",
    ),
    "marks on a road: no goods, and lines that all but vanish on a ground of their colour": (
        "Scopia/fleche-tourner-a-droite",
        "Scopia/fleche-tourner-a-droite-et-direct",
        "Scopia/fleche-tout-droit",
        "Scopia/passage-pieton",
        "Scopia/stationnement-creneau",
        "Scopia/stationnement-en-bataille",
        "Scopia/stationnement-epi-45",
        "Scopia/stationnement-epi-60",
        "Scopia/stationnement-epi-75",
    ),
}


@dataclass(frozen=True)
class Entry:
    """A model of a catalogue.

    Attributes:
        name: library and the model's own name, with a stroke between; the class's name.
        library: a key of :data:`LIBRARIES`.
        path: of the Wavefront file in the catalogue.
        rotation: (9,) a matrix, row by row, that sets the model upright.
        creator: who made it, by the catalogue.
        work: what the creator calls it and where it came from, if the model's folder says so.
    """

    name: str
    library: str
    path: str
    rotation: tuple[float, ...]
    creator: str
    work: str


def entries(folder: Path) -> dict[str, Entry]:
    """Return name -> model of all catalogues in ``folder``, without those that are left out.

    Raises:
        DataError: a catalogue is missing or damaged, or names what is left out differently.
    """
    found: dict[str, Entry] = {}
    for library in LIBRARIES:
        path = folder / f"{library}.sh3f"
        try:
            with zipfile.ZipFile(path) as archive:
                found |= {entry.name: entry for entry in _read(archive, library)}
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: cannot be read ({error}); unpack the package") from error
    unwanted = {name for names in LEFT_OUT.values() for name in names}
    if unwanted - set(found):
        raise DataError(f"{folder}: no {sorted(unwanted - set(found))}: another version?")
    return {name: entry for name, entry in found.items() if name not in unwanted}


def _read(archive: zipfile.ZipFile, library: str) -> Iterator[Entry]:
    rows: dict[str, dict[str, str]] = {}
    text = archive.read(INDEX).decode("latin1")
    for key, number, value in re.findall(r"^(\w+)#(\d+)[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.M):
        rows.setdefault(number, {})[key] = value
    files = archive.namelist()
    for row in rows.values():
        if "model" not in row:
            continue
        path = row["model"].strip().lstrip("/")
        folder = path.rpartition("/")[0] + "/"
        said = [f for f in files if f.startswith(folder) and "license" in f.lower()]
        rotation = tuple(map(float, row.get("modelRotation", "1 0 0 0 1 0 0 0 1").split()))
        yield Entry(
            f"{library}/{row['id'].split('#')[-1]}",
            library,
            path,
            rotation,
            row["creator"],
            _work(archive.read(said[0]).decode("utf-8", "replace")) if said else "",
        )


def _work(text: str) -> str:
    """Return title and address that the licence file of a model gives."""
    address = re.search(r"http://www\.blendswap\.com/blends/view/\d+", text)
    if address is None:
        return ""
    linked = re.search(rf'"{re.escape(address[0])}">([^<]+)</a>', text)
    title = re.search(r'downloading "([^"\n]+)"', text) or linked
    words = re.sub(r"^(Blend #\d+: |\d+ - )", "", title[1].strip()) if title else ""
    return f"{html.unescape(words)} ({address[0]})" if words else address[0]
