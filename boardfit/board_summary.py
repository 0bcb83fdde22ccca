"""What a board said of itself while it was measured, and what an inference costs it, in rows and
sentences for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boardfit.profiler.measure_energy import energy_text

if TYPE_CHECKING:
    from boardfit.profiler.board_record import BoardRecord
    from boardfit.profiler.measure_energy import ModelEnergy

Row = dict[str, Any]


def record_row(record: BoardRecord | None) -> Row:
    """The columns that a board's record adds to a row; none where it told nothing."""
    if record is None:
        return {}
    found: Row = {"slowed_%": record.slowed_share * 100}
    if record.causes:
        found["slowed_by"] = ", ".join(record.causes)
    if record.temperature is not None:
        found["warmest_c"] = record.temperature[1]
    if record.battery is not None:
        found["battery_%"] = record.battery * 100
    return found | {f"watts_{name}": watts for name, watts in (record.watts or {}).items()}


def record_words(record: BoardRecord | None) -> list[str]:
    """What a board said of itself, in sentences."""
    if record is None:
        return []
    words = []
    if record.words:
        words.append(
            f"{record.words[:1].upper()}{record.words[1:]}; these were repeated while the budget "
            "lasted."
        )
    if facts := ", ".join(f"{name} {value}" for name, value in record.facts):
        words.append(f"The board meanwhile: {facts}.")
    return words


def energy_row(found: ModelEnergy | None) -> Row:
    """The columns that a model's energy adds to its row; none where it was not measured."""
    if found is None:
        return {}
    energy = found.energy
    return {
        "energy_mj": energy.joules * 1e3,
        "energy_low_mj": energy.low * 1e3,
        "energy_high_mj": energy.high * 1e3,
        "busy_w": energy.busy,
        "idle_w": energy.idle,
        "energy_problem": energy.problem,
    }


def energy_words(found: ModelEnergy | None) -> list[str]:
    """What an inference costs, in sentences."""
    if found is None:
        return []
    energy = found.energy
    meter = (
        f"{' and '.join(found.rails)}: {energy.busy:.2f} W while it runs, {energy.idle:.2f} W idle"
    )
    if energy.problem is not None:
        return [f"Its energy is not known ({meter}), {energy.problem}."]
    return [
        f"An inference costs {energy_text(energy.joules)} beyond an idle board (95 %: "
        f"{energy_text(energy.low)} to {energy_text(energy.high)}; {meter}; {found.inferences:,} "
        "in a row)."
    ]
