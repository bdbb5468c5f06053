# `settings` of a neuron: the registry's names, kinds and ranges (nix/settings.json, written by tools/settings.py).
#
# A value is checked when the machine is evaluated, by the sentence the program would refuse it with. What the unit sets
# itself and what is secret is left out here and refused by modules/assertions.nix with the reason.
{ lib, role }:
let
  registry = (lib.importJSON ../settings.json).settings;
  ours = lib.filter (entry: entry.role == role || entry.role == "both") registry;

  managed = [
    "cache_dir"
    "hotkey_file"
    "state_dir"
    "wallet_hotkey"
    "wallet_name"
    "wallet_path"
  ];
  isManaged = entry: lib.elem entry.key managed;
  offered = lib.filter (entry: !(entry.secret || isManaged entry)) ours;

  # As the program reads it: true, 64, 0.98, text.
  toText = value: if lib.isString value then value else builtins.toJSON value;

  # A decimal with at most six places, in millionths, so that ranges are compared exactly; null if it is none.
  toMillionths =
    text:
    let
      parts = builtins.match "(-?)([0-9]{1,12})(\\.([0-9]{1,6}))?" text;
      places = lib.elemAt parts 3;
      shown = if places == null then "" else places;
      padded = shown + lib.substring 0 (6 - lib.stringLength shown) "000000";
      size = lib.toIntBase10 (lib.elemAt parts 1) * 1000000 + lib.toIntBase10 padded;
    in
    if parts == null then
      null
    else if lib.head parts == "-" then
      -size
    else
      size;

  isNumber =
    kind: value:
    let
      given = toMillionths (toText value);
    in
    given != null && toMillionths kind.minimum <= given && given <= toMillionths kind.maximum;

  isAllowed =
    kind: value:
    {
      integer = lib.isInt value && kind.minimum <= value && value <= kind.maximum;
      number = (lib.isInt value || lib.isFloat value || lib.isString value) && isNumber kind value;
      flag = lib.isBool value;
      text = lib.isString value && builtins.match kind.pattern value != null;
      choice = lib.elem value (kind.words or [ ]);
      location = lib.isString value && lib.hasPrefix "/" value;
      ipaddress = lib.isString value && builtins.match "[0-9a-fA-F.:]+" value != null;
    }
    .${kind.is};

  typeOf =
    entry:
    lib.mkOptionType {
      name = "perturb.${entry.key}";
      description = if entry.kind.is == "location" then "an absolute path" else entry.allowed;
      check = value: value == null || isAllowed entry.kind value;
      merge = lib.options.mergeEqualOption;
    };

  optionOf =
    entry:
    lib.mkOption {
      type = typeOf entry;
      default = null;
      defaultText = lib.literalMD (
        if entry.default == null then "not set" else "`${entry.default}`, the program's own"
      );
      description = ''
        ${entry.help}${lib.optionalString (entry.unit != "") ", in ${entry.unit}"}: ${entry.allowed}. `${entry.name}`.
      '';
    };

  names = lib.listToAttrs (map (entry: lib.nameValuePair entry.key entry.name) registry);
in
{
  inherit managed;
  known = map (entry: entry.key) offered;
  secrets = lib.listToAttrs (
    map (entry: lib.nameValuePair entry.key entry.name) (lib.filter (entry: entry.secret) registry)
  );
  others = map (entry: entry.key) (lib.filter (entry: !(lib.elem entry ours)) registry);

  type = lib.types.submodule {
    # What this module does not know is passed on when the package is another one than its own.
    freeformType = lib.types.attrsOf (
      lib.types.oneOf [
        lib.types.bool
        lib.types.int
        lib.types.float
        lib.types.str
      ]
    );
    options = lib.listToAttrs (map (entry: lib.nameValuePair entry.key (optionOf entry)) offered);
  };

  # Set settings as environment names and texts. systemd expands % in them.
  toEnvironment =
    settings:
    lib.mapAttrs' (
      key: value:
      lib.nameValuePair (names.${key} or "PERTURB_${lib.toUpper key}") (
        lib.replaceStrings [ "%" ] [ "%%" ] (toText value)
      )
    ) (lib.filterAttrs (_: value: value != null) settings);
}
