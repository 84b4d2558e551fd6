"""Names of the logging API that this package follows and does not have, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping

_SCRIPT = "write lumatile.init(NAME, sink=...) and recording.disconnect() at the end; $LUMATILE_SINK chooses the sink"
_VIEWER = "there is no viewer: look with `lumatile render`, in a notebook with frame.to_rgba8(), or export to .rrd"
_TEXT = "log it as lumatile.log_extension_components(path, {'text': ...})"
_NUMBER = "log it as lumatile.log_extension_components(path, {'value': ...})"
_SHAPE = "log its corners with lumatile.log_points, or its numbers with lumatile.log_extension_components"
_SPACE = "there are no transforms or cameras: log its numbers with lumatile.log_extension_components"

REPLACED: Mapping[str, str] = {
    **dict.fromkeys(("script_add_args", "script_setup", "script_teardown"), _SCRIPT),
    **dict.fromkeys(("spawn", "serve", "show", "start_web_viewer_server", "inline_show", "notebook_show"), _VIEWER),
    "memory_recording": "log to a temporary directory, sink=tempfile.mkdtemp(), and read it with lumatile.open_store",
    "strict_mode": "it is recording.settings.strict; lumatile.set_strict_mode sets it",
    "version": "it is lumatile.__version__",
    "unregister_shutdown": "call recording.disconnect() before the end",
    "cleanup_if_forked_child": "a forked child has a stream of its own by itself",
    "set_enabled": "lumatile.init(NAME, sink='off://') keeps nothing",
    "bindings": "there are none: all of it is Python",
    **dict.fromkeys(("log_text_entry", "log_text", "LoggingHandler", "LogLevel"), _TEXT),
    **dict.fromkeys(("log_scalar", "log_tensor"), _NUMBER),
    **dict.fromkeys(("log_rect", "log_rects", "RectFormat", "log_obb", "log_obbs", "log_arrow", "log_path"), _SHAPE),
    **dict.fromkeys(("log_line_strip", "log_line_strip_2d", "log_line_strip_3d", "log_line_segments"), _SHAPE),
    **dict.fromkeys(("log_mesh", "log_meshes", "log_mesh_file", "MeshFormat"), _SHAPE),
    **dict.fromkeys(("log_pinhole", "log_rigid3", "log_transform3d", "log_unknown_transform"), _SPACE),
    **dict.fromkeys(("log_view_coordinates", "log_disconnected_space"), _SPACE),
}
"""Name -> what to write instead."""
