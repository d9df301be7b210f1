"""Pictures of robots, drawn off-screen by MuJoCo's renderer, and films of them.

The renderer needs an OpenGL that needs no screen: EGL, or what MUJOCO_GL names. MuJoCo reads that
variable when it is imported, by everything and for nothing; here it is read when a film is made.
"""

import importlib
import math
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mujoco  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rigorl.errors import SpecError
from rigorl.tasks.seen import Moment

WIDTH, HEIGHT, STRIP = 320, 240, 32
"""Of a picture, and of what is written below it, in pixels."""
FPS = 25
"""Pictures a second, at most."""
RED = (0.85, 0.1, 0.1, 1.0)
THICK = 0.04
"""Of an arrow, as a share of the longest one."""
COLOURS = 96
TRACK = "track"
"""The camera of a model that follows it, as Gymnasium's have one."""
USUAL = {"Linux": "egl", "Darwin": "cgl"}
BROKEN = ImportError, AttributeError, OSError, RuntimeError, TypeError, mujoco.FatalError
"""What comes of an OpenGL that is not there, or half."""


def stride(dt: float) -> int:
    """Return how many steps of *dt* seconds go by from one picture to the next."""
    return max(1, math.ceil(1 / (FPS * dt) - 1e-9))


class Camera:
    """Draws moments of one episode, from the side."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        self._scene, self._option = mujoco.MjvScene(model, 10_000), mujoco.MjvOption()
        self._view, self._reach = _view(model, self._data)
        self._rect = mujoco.MjrRect(0, 0, WIDTH, HEIGHT - STRIP)
        self._font = ImageFont.load_default(11)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_resizeOffscreen(self._rect.width, self._rect.height, self._context)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def picture(self, moment: Moment, lines: Sequence[str]) -> Image.Image:
        """Return what is seen of *moment*, forces as arrows, with *lines* below."""
        data, every = self._data, mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mj_copyData(data, self._model, moment.data)
        mujoco.mj_forward(self._model, data)  # a step leaves bodies where they were before it
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._view, every, self._scene
        )
        for body, force_3 in moment.forces.items():
            self._arrow(data.xipos[body], force_3 * (self._reach / moment.limit))
        pixels = np.empty((self._rect.height, self._rect.width, 3), np.uint8)
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, self._rect, self._context)
        page = Image.new("RGB", (WIDTH, HEIGHT), "white")
        page.paste(Image.fromarray(pixels[::-1]))
        pen = ImageDraw.Draw(page)
        for i, line in enumerate(lines):
            pen.text((4, HEIGHT - STRIP + 2 + 14 * i), line, "black", self._font)
        return page

    def _arrow(self, aim_3: NDArray[Any], way_3: NDArray[Any]) -> None:
        """Draw an arrow that is *way* long and touches what it pushes, on its way to *aim*."""
        length = float(np.linalg.norm(way_3))
        if length < 1e-3 * self._reach or self._scene.ngeom >= self._scene.maxgeom:
            return
        far_3 = aim_3 - way_3 * (3 * self._reach / length)
        hit, model, data = np.full(1, -1, np.int32), self._model, self._data
        away = mujoco.mj_ray(model, data, far_3, way_3 / length, None, 0, -1, hit, None)
        tip_3 = far_3 + way_3 * (away / length) if away >= 0 else aim_3
        geom, kind = self._scene.geoms[self._scene.ngeom], mujoco.mjtGeom.mjGEOM_ARROW
        none, flat = np.zeros(3), np.eye(3).flatten()
        mujoco.mjv_initGeom(geom, kind, none, none, flat, np.array(RED, np.float32))
        # MuJoCo draws an arrow over the first half of what it connects.
        mujoco.mjv_connector(geom, kind, THICK * self._reach, tip_3 - way_3, tip_3 + way_3)
        self._scene.ngeom += 1

    def close(self) -> None:
        self._context.free()


def _view(model: mujoco.MjModel, data: mujoco.MjData) -> tuple[mujoco.MjvCamera, float]:
    """Return a camera that follows the robot of *model*, and how long its longest arrow is."""
    mujoco.mj_forward(model, data)
    roots = np.flatnonzero(model.body_parentid[1:] == 0) + 1
    root = int(max(roots, key=lambda body: model.body_subtreemass[body], default=0))
    own = model.body_rootid[model.geom_bodyid] == root
    away = np.linalg.norm(data.geom_xpos[own] - data.subtree_com[root], axis=1)
    size = float(np.max(away + model.geom_rbound[own], initial=0.1))
    camera = mujoco.MjvCamera()
    fixed = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, TRACK)
    if fixed >= 0:
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, fixed
    else:
        camera.type, camera.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, root
        camera.distance, camera.azimuth, camera.elevation = 4 * size, 90, -20
        camera.lookat[:] = data.subtree_com[root]
    return camera, size


@contextmanager
def opened(model: mujoco.MjModel) -> Iterator[Camera]:
    """Lend a camera for the simulations of *model*. Raises `SpecError` where there is no OpenGL."""
    said = os.environ.get("MUJOCO_GL", "").lower() or USUAL.get(platform.system(), "glfw")
    try:
        screen: Any = importlib.import_module(f"mujoco.{said}").GLContext(WIDTH, HEIGHT)
        screen.make_current()
        camera = Camera(model)
    except BROKEN as error:
        line = " ".join(str(error).split())
        raise SpecError(
            f"a film must be drawn by an OpenGL that needs no screen, but {said} gives none: "
            f"{line}; install one (Debian and Ubuntu: `apt-get install libegl1 libegl-mesa0 "
            "libgl1-mesa-dri`), or name another with MUJOCO_GL (egl, osmesa, glfw)"
        ) from error
    try:
        yield camera
    finally:
        camera.close()
        screen.free()


def write(path: Path, pictures: Sequence[Image.Image], seconds: float) -> None:
    """Write *pictures*, each shown for so many *seconds*, as an animated GIF: whole, or not at all.

    Raises `SpecError` where that cannot be.
    """
    first, *others = [picture.quantize(COLOURS, dither=Image.Dither.NONE) for picture in pictures]
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        first.save(
            draft,
            format="GIF",
            save_all=True,
            append_images=others,
            duration=round(100 * seconds) * 10,  # a GIF counts hundredths
            loop=0,
        )
        draft.replace(path)
    except OSError as error:
        raise SpecError(
            f"a film must have a file that one can write, but {path}: {error.strerror or error}; "
            "choose another with --out"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
