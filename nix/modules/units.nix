# packaging/service.json as attributes: the layers of a role, one over the other (its `about` says how).
{ lib }:
let
  source = lib.importJSON ../../packaging/service.json;

  # A later value replaces an earlier one, null removes it.
  overlay =
    below: above:
    let
      merged = below // above;
    in
    lib.removeAttrs merged (lib.filter (name: merged.${name} == null) (lib.attrNames merged));

  sectionOf =
    layers: section:
    lib.foldl' overlay { } (map (layer: source.layers.${layer}.${section} or { }) layers);

  replaceIn =
    places: value:
    if lib.isList value then
      map (replaceIn places) value
    else if lib.isString value then
      lib.replaceStrings (lib.attrNames places) (lib.attrValues places) value
    else
      value;

  # [ "NAME=text" … ] as attributes.
  toAttrs =
    assignments:
    lib.listToAttrs (
      map (
        assignment:
        let
          parts = lib.splitString "=" assignment;
        in
        lib.nameValuePair (lib.head parts) (lib.concatStringsSep "=" (lib.tail parts))
      ) assignments
    );
in
{
  # `part` is a role of service.json. Where the operator's files lie is said by options here, so those lines are left out.
  unit =
    {
      part,
      cuda,
      account,
      unit,
    }:
    let
      found = source.roles.${part};
      layers = found.layers ++ lib.optionals cuda found.cuda;
      replaced = section: lib.mapAttrs (_: replaceIn places) (sectionOf layers section);
      places = {
        "@account@" = account;
        "@unit@" = unit;
      };
      service = replaced "Service";
    in
    {
      unit = replaced "Unit";
      install = replaced "Install";
      environment = toAttrs (service.Environment or [ ]);
      service = lib.removeAttrs service [
        "Environment"
        "EnvironmentFile"
        "LoadCredential"
      ];
      inherit (found) arguments;
    };
}
