# The package set as far as our flake, uv2nix and pyproject.nix read it.
{ lib, path }:
let
  system = "x86_64-linux";
  platform = lib.systems.elaborate system;

  # What a derivation can be made of; the rest is for whoever evaluates.
  isPlain = value: lib.isString value || lib.isBool value || lib.isInt value || lib.isDerivation value;
  isRendered = value: isPlain value || (lib.isList value && lib.all isPlain value);
  toEnvironment =
    attributes:
    lib.filterAttrs (_: isRendered) (
      lib.removeAttrs attributes [
        "meta"
        "name"
        "passthru"
        "stdenv"
      ]
    );

  make =
    describe:
    let
      attributes = describe package;
      name = attributes.name or "${attributes.pname}-${attributes.version}";
      built = derivation (
        toEnvironment attributes
        // {
          inherit name system;
          builder = "/bin/sh";
        }
      );
      package =
        attributes
        // (attributes.passthru or { })
        // {
          inherit (built) drvPath outPath;
          inherit name system;
          type = "derivation";
          outputName = "out";
          outputs = [ "out" ];
          meta = attributes.meta or { };
          overrideAttrs =
            change:
            make (
              final:
              let
                previous = describe final;
              in
              previous // (lib.toExtension change) final previous
            );
        };
    in
    package;
  mkDerivation = described: make (if lib.isFunction described then described else _: described);
  named = name: mkDerivation { inherit name; };

  stdenv = {
    inherit mkDerivation;
    isLinux = true;
    isDarwin = false;
    hostPlatform = platform;
    buildPlatform = platform;
    targetPlatform = platform;
    cc.libc = {
      pname = "glibc";
      version = "2.42";
      linuxHeaders.version = "6.18";
    };
  };

  facts = {
    implementation = "cpython";
    pythonVersion = "3.12";
    sourceVersion = {
      major = "3";
      minor = "12";
    };
    sitePackages = "lib/python3.12/site-packages";
    interpreter = "/usr/bin/python3.12";
    isPy3 = true;
    isPyPy = false;
  };
  python312 =
    mkDerivation {
      pname = "python3";
      version = "3.12.12";
      passthru = facts;
    }
    // {
      inherit stdenv;
      passthru = facts;
      pythonOnBuildForHost = python312;
    };

  nixos = import ./nixos.nix { inherit lib pkgs; };
  pkgs =
    lib.genAttrs [
      "autoPatchelfHook"
      "bash"
      "coreutils"
      "gcc"
      "git"
      "gnumake"
      "nixfmt"
      "nixfmt-tree"
      "systemd"
      "unzip"
      "uv"
    ] named
    // {
      inherit
        lib
        path
        pkgs
        python312
        stdenv
        ;
      python3 = python312;
      python3Packages = { };
      buildPackages = pkgs;
      callPackage = pkgs.newScope { };
      newScope = extra: lib.callPackageWith (pkgs // extra);
      fetchurl =
        file:
        mkDerivation (
          {
            name = baseNameOf file.url;
            passthru = { inherit (file) url; };
          }
          // file
        );
      makeSetupHook = described: _script: named (described.name or "hook");
      mkShell = described: mkDerivation (described.env // { name = "shell"; inherit (described) packages; });
      pythonManylinuxPackages = lib.genAttrs [ "manylinux1" "manylinux2010" "manylinux2014" ] (_: [ ]);
      runCommand = name: environment: script: mkDerivation (environment // { inherit name script; });
      symlinkJoin = mkDerivation;
      testers.runNixOSTest =
        test:
        mkDerivation {
          inherit (test) name testScript;
          machines = map (node: (nixos { modules = [ node ]; }).config.system.build.toplevel) (
            lib.attrValues test.nodes
          );
        };
      writeShellScript = name: text: mkDerivation { inherit name text; };
      writeShellScriptBin =
        name: text:
        mkDerivation {
          inherit name text;
          meta.mainProgram = name;
        };
      writeTextDir = name: text: mkDerivation { inherit name text; };
    };
in
pkgs
