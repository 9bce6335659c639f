// GraphiQL names its keys Shift-Ctrl-…, but binds WinCtrl: that is Ctrl on a Mac, and the Windows key everywhere else.
import { isMacOs, KEY_MAP, KeyCode, KeyMod } from "@graphiql/react";

const CODES = { prettify: KeyCode.KeyP, mergeFragments: KeyCode.KeyM, copyQuery: KeyCode.KeyC };

if (!isMacOs) {
  for (const [name, code] of Object.entries(CODES)) {
    KEY_MAP[name].keybindings[0] = KeyMod.CtrlCmd | KeyMod.Shift | code;
  }
}
