"""The renderer process: the only code that imports bpy. Started as `python -m randscene.blender_scripts.worker`."""
